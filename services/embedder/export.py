"""Export a trained embedder to the zoo:  python -m services.embedder.export RUN --name NAME [--zoo DIR]

`bowerbird export embedder` is the same. RUN is the directory that training wrote, or a model.safetensors of it. Out
come NAME.onnx (embedding, code and heads; any batch; weights as float16), its card, its labels and a page. The file is
compared with the network in torch first, and nothing is written if they differ. The scores of the heads are fitted on
the validation pictures of the run's table; sources and licences of what it learned from come from the pictures.jsonl
beside the pictures, or from --training-data.

exit codes: 0 done, 1 failed, 2 wrong usage
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors
import torch

from bowerbird.errors import BowerbirdError, ConfigInvalid, ModelFileCorrupt
from bowerbird.models import zoo
from bowerbird.models.checkpoints import read_tensors
from bowerbird.training.run import MODEL_FILE
from bowerbird.vectors import CODE_BITS_MULTIPLE

from . import model_card, quantization
from .calibration import Calibration, calibrate_classes, calibrate_labels
from .examples import Examples, TablePlace, read_examples
from .model import METADATA_KEY, ModelConfig, MultiTaskEmbedder
from .origins import CONFIG_FILE, find_origins, read_config
from .serving_graph import ServedNetwork, export_graph, measure_parity, run_graph, store_half

MAX_BYTES = 12 * 2**20  # of a file in git
MAX_PICTURES = 1000
RUN_BATCH = 32
# What requests call a head, where the name of the task would promise too much.
HEAD_NAMES = {"tone": "drawn skin tone", "skin_tone": "drawn skin tone"}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line."""
    options = _parse(sys.argv[1:] if argv is None else argv)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names packages that are not needed
    page = zoo.find_zoo(options.zoo) / f"{options.name}.md"
    was_there = page.exists()
    try:
        model = export(options)
    except BowerbirdError as error:
        sys.stderr.write(f"cannot export: {error.message}\n")
        return 1
    sys.stdout.write(
        f"{model.path} ({model.path.stat().st_size / 1e6:.1f} MB, version {model.sha256[:12]})\n"
        f"card, labels and page stand beside it; serve it with: BOWERBIRD_EMBEDDER_MODEL={model.name} bowerbird up\n"
    )
    if was_there:
        sys.stdout.write(f"{page} was there and stays, as people wrote in it: bring its numbers up to date\n")
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="bowerbird export embedder",
        description=description.partition(":")[0] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a training run, or its model.safetensors")
    parser.add_argument("--name", required=True, help="of the model in the zoo")
    parser.add_argument("--zoo", type=Path, metavar="DIR", help="where it goes ($BOWERBIRD_ZOO, else the zoo in use)")
    parser.add_argument("--table", type=Path, metavar="FILE", help="of pictures to calibrate on, in place of the run's")
    parser.add_argument("--no-calibration", action="store_true", help="leave the scores of the heads as they are")
    parser.add_argument(
        "--max-pictures", type=int, default=MAX_PICTURES, metavar="N", help=f"for that ({MAX_PICTURES})"
    )
    parser.add_argument(
        "--training-data",
        action="append",
        default=[],
        metavar="SOURCE=LICENCE",
        help="what it learned from; repeatable",
    )
    parser.add_argument("--licence", default="Apache-2.0", help="of the weights (Apache-2.0)")
    parser.add_argument("--attribution", default="Bowerbird contributors", help="who is to be named")
    parser.add_argument(
        "--head-name", action="append", default=[], metavar="TASK=NAME", help="what requests call a head; repeatable"
    )
    parser.add_argument("--int8", action="store_true", help="try 8-bit weights; kept if faster and as good")
    parser.add_argument("--replace", action="store_true", help="overwrite a model of this name")
    return parser.parse_args(argv)


def export(options: argparse.Namespace) -> zoo.ZooModel:
    """The model in the zoo, checked as a service would check it.

    Raises:
        ConfigInvalid: the run, a name or a table is not what is needed; the message says what to do.
        ModelFileCorrupt: the weights cannot be read, or the file differs from the network; nothing was written.
    """
    folder = zoo.find_zoo(options.zoo)
    _check_name(options.name, folder, replace=options.replace)
    whole, tensors, record = read_run(options.run)
    head_names = {**HEAD_NAMES, **_read_pairs(options.head_name, "--head-name")}
    network = ServedNetwork(build_network(whole, tensors))
    _check_heads(network.tasks, head_names)
    place = _find_table(options)
    trained_on = _read_pairs(options.training_data, "--training-data") or find_origins(options.run)
    exact = export_graph(network, options.name)
    stored = store_half(exact)
    parity = measure_parity(network, exact, stored)
    examples = None
    if options.int8 or (network.tasks and not options.no_calibration):
        if place is None:
            raise ConfigInvalid(f"{options.run} has no {CONFIG_FILE} that names a table; name one with --table")
        examples = read_examples(place, whole, limit=options.max_pictures)
    notes, weights = {}, "stored as float16, computed as float32"
    if options.int8 and examples is not None:
        kept, notes["8-bit weights"] = _try_int8(exact, stored, examples, whole)
        if kept is not stored:
            stored, weights = kept, "matrices as 8-bit integers"
            parity = measure_parity(network, exact, stored, is_bounded=False)
    calibrations: Mapping[str, Calibration] = {}
    if examples is not None and not options.no_calibration:
        calibrations = calibrate(stored, network, examples)
    content = stored.SerializeToString(deterministic=True)
    if len(content) > MAX_BYTES:
        raise ConfigInvalid(
            f"the file would have {len(content) / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.1f} MB travel with the code; "
            "train a smaller network or fewer labels"
        )
    facts = model_card.Facts(
        name=options.name,
        config=network.model.config,
        step=int(record.get("step", 0)),
        parameters=sum(parameter.numel() for parameter in network.model.parameters()),
        weights=weights,
        parity=parity,
        licence=options.licence,
        attribution=options.attribution,
        trained_on=trained_on,
        head_names=head_names,
        calibrations=calibrations,
        measures=record.get("measures", {}),
        notes=notes,
    )
    return model_card.write(folder, content, facts)


def read_run(run: Path) -> tuple[ModelConfig, dict[str, torch.Tensor], dict[str, Any]]:
    """Configuration and weights of a run, and what it noted beside them.

    Raises:
        ConfigInvalid: there is no such file, or it is not of an embedder.
        ModelFileCorrupt: it cannot be read.
    """
    path = run / MODEL_FILE if run.is_dir() else run
    if not path.is_file():
        raise ConfigInvalid(f"expected the weights of a run at {path}, found no file; train one first")
    tensors = read_tensors(path)
    with safetensors.safe_open(path, "pt") as file:
        metadata = dict(file.metadata() or {})
    if METADATA_KEY not in metadata:
        raise ConfigInvalid(f"{path} was not written by `bowerbird train embedder`: its metadata lack {METADATA_KEY!r}")
    config = ModelConfig.from_json(metadata[METADATA_KEY])
    if config.dimension % CODE_BITS_MULTIPLE:
        raise ConfigInvalid(
            f"the embedding has {config.dimension} dimensions, which are the bits of its code; an index needs a "
            f"multiple of {CODE_BITS_MULTIPLE}: train with [model] dimension = "
            f"{-(-config.dimension // CODE_BITS_MULTIPLE) * CODE_BITS_MULTIPLE}"
        )
    return config, tensors, json.loads(metadata[METADATA_KEY])


def build_network(config: ModelConfig, tensors: Mapping[str, torch.Tensor]) -> MultiTaskEmbedder:
    """The network with its weights, without the heads that only training needs.

    Raises:
        ModelFileCorrupt: weights are missing or have other shapes.
    """
    model = MultiTaskEmbedder(config.without_dropped_heads())
    wanted = model.state_dict()
    if missing := sorted(set(wanted) - set(tensors)):
        raise ModelFileCorrupt(f"the run's weights lack {', '.join(missing[:5])}; they are not of its configuration")
    try:
        model.load_state_dict({name: tensors[name] for name in wanted})
    except RuntimeError as error:
        raise ModelFileCorrupt(f"the run's weights do not fit its configuration: {error}") from error
    return model


def calibrate(model: onnx.ModelProto, network: ServedNetwork, examples: Examples) -> dict[str, Calibration]:
    """Temperature, bias and least score of each head that held-out pictures have labels for."""
    outputs = [
        run_graph(model, part, network.output_names)
        for part in np.array_split(examples.pictures, -(-len(examples.pictures) // RUN_BATCH))
    ]
    found = {}
    for position, task in enumerate(network.model.config.tasks, start=2):
        logits = np.concatenate([part[position] for part in outputs])
        numbers = {label: number for number, label in enumerate(task.labels)}
        lists = [[numbers[label] for label in labels if label in numbers] for labels in examples.labels[task.column]]
        labelled = [row for row, ids in enumerate(lists) if ids]
        if not labelled:
            continue
        if task.kind == "classes":
            found[task.name] = calibrate_classes(logits[labelled], np.array([lists[row][0] for row in labelled]))
        else:
            truth = np.zeros((len(labelled), len(task.labels)), bool)
            for place, row in enumerate(labelled):
                truth[place, lists[row]] = True
            found[task.name] = calibrate_labels(logits[labelled], truth)
    return found


def _try_int8(
    exact: onnx.ModelProto, stored: onnx.ModelProto, examples: Examples, config: ModelConfig
) -> tuple[onnx.ModelProto, str]:
    """The form to keep, and the table of all as a section of the page."""
    task = min(config.tasks, key=lambda task: ("metric", "classes", "multilabel").index(task.kind))
    labels = [found[0] if found else f"picture {row}" for row, found in enumerate(examples.labels[task.column])]
    variants = quantization.measure_variants(exact, stored, examples.pictures, labels)
    kept = quantization.choose(variants)
    table = quantization.render(variants)
    text = f"{table}\n\n{len(labels):,} held-out pictures, right answers by {task.name}. Kept: {kept.name}."
    sys.stdout.write(f"{text}\n\n")
    return kept.model, text


def _find_table(options: argparse.Namespace) -> TablePlace | None:
    if config := read_config(options.run):
        return TablePlace.from_run(config, options.table)
    return TablePlace(options.table, options.table.parent, "picture", "split") if options.table else None


def _check_name(name: str, folder: Path, *, replace: bool) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigInvalid(f"--name: expected small letters, digits, dots and dashes, got {name!r}")
    if (folder / f"{name}.toml").exists() and not replace:
        raise ConfigInvalid(
            f"{folder} has a model named {name!r}; choose another --name, or overwrite it with --replace"
        )


def _check_heads(tasks: Sequence[str], head_names: Mapping[str, str]) -> None:
    """Nothing, if requests can tell the heads apart; to be found out before a file is written."""
    names = [head_names.get(task, task) for task in tasks]
    for task, name in zip(tasks, names, strict=True):
        if name in zoo.RESERVED_HEADS or names.count(name) > 1:
            raise ConfigInvalid(
                f"the head of task {task!r} cannot be called {name!r}, which requests use for something else; give it "
                f"another name with --head-name {task}=NAME"
            )


def _read_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not key.strip() or not value.strip():
            raise ConfigInvalid(f"{option}: expected two words with = between them, got {pair!r}")
        found[key.strip()] = value.strip()
    return found


if __name__ == "__main__":
    sys.exit(main())
