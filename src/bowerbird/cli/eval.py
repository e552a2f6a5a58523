"""Measure how good retrieval is, with 95 % bootstrap intervals over concepts.

`retrieval` on an index asks three questions of pictures with the fields style, concept and category (the demo corpus):
 - does a drawing find the same concept drawn in another style (P@1, R@10; all shared concepts, all pairs of styles)
 - what does the default search, binary codes and exact re-ranking, lose against scoring everything exactly
 - are the neighbours of clip-art and photographs of the same category (P@5)

With --model or --split it examines models of the zoo instead, on what no model was trained on, and no index is needed:
 - unseen-concepts: all ordered pairs of training styles, queries and gallery from test concepts only
 - unseen-style: the held-out style (openmoji) against each training style in both directions; `strict` takes test
   concepts only, and beside it stand all concepts
P@1 and R@10 stand for embeddings (float) and for packed codes by Hamming distance alone (binary); equal scores stand in
random order. Several models are compared with the first one on the same resamples. Vectors are kept in
~/.cache/bowerbird/vectors, so that a second call is quick.

examples:
  bowerbird eval retrieval
  bowerbird eval retrieval --corpus demo/corpus --json     index the folder first, as far as it is not there
  bowerbird eval retrieval --json --model efficientnet-lite0 --split unseen-concepts
  bowerbird eval retrieval --model efficientnet-lite0 --model MINE          both splits, MINE against the first
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.cli import contest, quality
from bowerbird.cli.flow import Interrupt
from bowerbird.cli.index import summarize
from bowerbird.cli.indexing import Tally, index_roots
from bowerbird.cli.options import Options, add_index_option, add_json_option, open_connection
from bowerbird.cli.outcome import EXIT_OK, CommandFailed
from bowerbird.cli.quality import Corpus, Pair
from bowerbird.cli.show import print_json, table
from bowerbird.cli.sources import count_sources
from bowerbird.cli.vectors import embed_files
from bowerbird.corpora import UNSEEN_STYLE
from bowerbird.progress import Progress
from bowerbird.rpc.clients import Connection, EmbedderClient, RetrievalClient

CORPUS = Path("demo/corpus")  # where `make demo` puts its pictures
HEADLINE = ("noto", "twemoji")
STYLES = ("noto", "twemoji", "openmoji", "fluent-flat", "fluent", "emojione", "noto-v1")
CATEGORY_STYLES = ("clipart", "photograph")
# EfficientNet-lite0, mean-pooled features at 128 pixels, 600 random noto -> twemoji concepts.
REFERENCE_CONCEPTS = 600
REFERENCE = {"concepts": REFERENCE_CONCEPTS, "p_at_1": 0.437, "r_at_10": 0.772}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `eval`."""
    parser.add_argument("what", choices=["retrieval"], help="what to measure")
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="DIR",
        help=f"index this folder first, if it is not there yet; with --model: its pictures ({CORPUS})",
    )
    parser.add_argument("--styles", default=",".join(STYLES), metavar="A,B,...", help="styles to compare")
    parser.add_argument(
        "--model", action="append", metavar="NAME", help="examine this model of the zoo; may be repeated"
    )
    parser.add_argument("--split", action="append", choices=contest.SPLITS, help="only this one; default: both")
    parser.add_argument(
        "--held-out", default=UNSEEN_STYLE, metavar="STYLE", help=f"style nobody trained on ({UNSEEN_STYLE})"
    )
    add_index_option(parser)
    add_json_option(parser)


def run(arguments: Options) -> int:
    """Exit code 0 when everything could be measured."""
    start = time.monotonic()
    if arguments.model or arguments.split:
        report, text = examine(arguments), contest.render
    else:
        with open_connection(arguments) as connection:
            if arguments.corpus:
                _index_first(connection, arguments.corpus, arguments.index)
            start = time.monotonic()
            report, text = measure(connection, arguments.index, arguments.styles.split(",")), render
    report["seconds"] = round(time.monotonic() - start, 1)
    if arguments.json:
        print_json(report)
    else:
        print(text(report))
    return EXIT_OK


def examine(arguments: Options) -> dict[str, Any]:
    """The report on models of the zoo; without a name: on the model that the running services serve.

    Raises:
        CommandFailed: the corpus lacks what is asked for, or a model cannot be run.
    """
    folder, styles = arguments.corpus or CORPUS, arguments.styles.split(",")
    splits = dict.fromkeys(arguments.split or contest.SPLITS)
    questions = [one for split in splits for one in contest.plan_questions(split, styles, arguments.held_out)]
    records = contest.choose_records(folder, questions)
    names = dict.fromkeys(arguments.model or [_served_model(arguments)])
    files = [folder / record.path for record in records]
    found = [embed_files(arguments, name, files) for name in names]
    return {"corpus": str(folder), "splits": list(splits)} | contest.measure(questions, records, found)


def _served_model(arguments: Options) -> str:
    with open_connection(arguments) as connection:
        return EmbedderClient(connection).get_model().model.name


def measure(connection: Connection, index: str, styles: list[str]) -> dict[str, Any]:
    """The whole report as plain values.

    Raises:
        CommandFailed: the index lacks the two styles of the headline, or concepts that they share.
    """
    client = RetrievalClient(connection)
    corpus = quality.load_corpus(client, index)
    pairs = list(quality.compare_pairs(client, index, corpus, styles))
    headline = next((pair for pair in pairs if (pair.query_style, pair.gallery_style) == HEADLINE), None)
    if headline is None:
        raise CommandFailed(
            f"index {index!r} has no concepts that {' and '.join(HEADLINE)} share; index the demo corpus: "
            f"bowerbird eval retrieval --corpus DIR"
        )
    described = client.get_index(index)
    return {
        **describe_pair(headline),
        "sample": quality.measure_like_reference(corpus, *HEADLINE, concepts=REFERENCE_CONCEPTS),
        "reference": REFERENCE,
        "all_pairs": _pool(pairs),
        "per_pair": [describe_pair(pair) for pair in pairs],
        "whole_index": quality.measure_overlap(client, index, corpus, HEADLINE[0]),
        "category": _measure_categories(client, index, corpus),
        "index": index,
        "model": f"{described.model.name} {described.model.version}",
    }


def describe_pair(pair: Pair) -> dict[str, Any]:
    """Measures of one pair of styles: exact, and by binary scan and re-ranking."""
    return {
        "query_style": pair.query_style,
        "gallery_style": pair.gallery_style,
        "concepts": len(pair.concepts),
        **_measures(pair.exact, pair.binary, None),
    }


def _pool(pairs: list[Pair]) -> dict[str, Any]:
    """Measures over all queries of all pairs; a concept is one cluster however many pairs it appears in."""
    names = [concept for pair in pairs for concept in pair.concepts]
    _, clusters = np.unique(names, return_inverse=True)
    exact = np.concatenate([pair.exact for pair in pairs])
    binary = np.concatenate([pair.binary for pair in pairs])
    return {"pairs": len(pairs), "queries": len(names), **_measures(exact, binary, clusters)}


def _measures(exact: quality.IntArray, binary: quality.IntArray, clusters: quality.IntArray | None) -> dict[str, Any]:
    first, ten = (quality.estimate_at(exact, k, clusters) for k in (1, quality.DEPTH))
    binary_first, binary_ten = (quality.estimate_at(binary, k, clusters) for k in (1, quality.DEPTH))
    return {
        "p_at_1": round(first.value, 4),
        "p_at_1_interval": first.interval,
        "r_at_10": round(ten.value, 4),
        "r_at_10_interval": ten.interval,
        "binary": {
            "p_at_1": round(binary_first.value, 4),
            "p_at_1_interval": binary_first.interval,
            "r_at_10": round(binary_ten.value, 4),
            "r_at_10_interval": binary_ten.interval,
            "r_at_10_kept": round(binary_ten.value / ten.value, 4) if ten.value else 1.0,
        },
    }


def _measure_categories(client: RetrievalClient, index: str, corpus: Corpus) -> list[dict[str, Any]]:
    measured = (quality.measure_category(client, index, corpus, style) for style in CATEGORY_STYLES)
    return [one for one in measured if one is not None]


def _index_first(connection: Connection, folder: Path, index: str) -> None:
    """Index the corpus as `bowerbird index` does; its report goes to standard error."""
    root = folder.expanduser().absolute()
    tally, progress = Tally(), Progress(count_sources(root), "pictures")
    with Interrupt() as interrupt:
        index_roots(connection, [root], index=index, tally=tally, progress=progress, interrupt=interrupt)
        progress.finish()
    print(summarize(tally, progress.elapsed_s, index), file=sys.stderr)
    if interrupt.stop.is_set():
        raise KeyboardInterrupt


def render(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"{report['query_style']} -> {report['gallery_style']}, {report['concepts']:,} concepts, {report['model']}",
        _render_headline(report),
        _render_losses(report),
        "",
        "pairs of styles (P@1 / R@10, query down, gallery across)",
        _matrix(report["per_pair"]),
    ]
    header = ("style", "pictures", "categories", "P@5", "95 %", "chance")
    rows = [
        (each["style"], each["pictures"], each["categories"], each["p_at_5"], _interval(bounds), each["chance"])
        for each in report["category"]
        for bounds in [each["p_at_5_interval"]]
    ]
    if rows:
        lines += ["", "neighbours of the same category", table(rows, header=header)]
    return "\n".join([*lines, f"\n{report['seconds']} s"])


def _render_headline(report: dict[str, Any]) -> str:
    pooled, sample, reference = report["all_pairs"], report["sample"], report["reference"]
    rows = [
        ("exact", *_cells(report)),
        ("binary + re-rank", *_cells(report["binary"])),
        (f"exact, all {pooled['pairs']} pairs of styles", *_cells(pooled)),
        ("binary + re-rank, all pairs", *_cells(pooled["binary"])),
        (f"exact, {sample['concepts']} random concepts", sample["p_at_1"], "", sample["r_at_10"], ""),
        (f"  reference at 128 px, {reference['concepts']}", reference["p_at_1"], "", reference["r_at_10"], ""),
    ]
    return table(rows, header=("", "P@1", "95 %", "R@10", "95 %"))


def _render_losses(report: dict[str, Any]) -> str:
    binary, pooled, whole = report["binary"], report["all_pairs"]["binary"], report["whole_index"]
    kept = f"{binary['r_at_10_kept']:.2%} of the exact R@10 ({pooled['r_at_10_kept']:.2%} over all pairs)"
    found = f"{whole['overlap_at_10']:.2%} of the ten nearest of all {whole['items']:,} items"
    return f"  binary + re-rank keeps {kept}, and finds {found}"


def _cells(measures: dict[str, Any]) -> tuple[object, ...]:
    return (
        measures["p_at_1"],
        _interval(measures["p_at_1_interval"]),
        measures["r_at_10"],
        _interval(measures["r_at_10_interval"]),
    )


def _interval(bounds: list[float]) -> str:
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _matrix(pairs: list[dict[str, Any]]) -> str:
    cells = {(p["query_style"], p["gallery_style"]): f"{p['p_at_1']:.2f}/{p['r_at_10']:.2f}" for p in pairs}
    styles = list(dict.fromkeys(style for key in cells for style in key))
    rows = [(query, *(cells.get((query, gallery), "") for gallery in styles)) for query in styles]
    return table(rows, header=("", *styles))
