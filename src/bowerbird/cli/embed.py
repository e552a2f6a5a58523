"""Print or save the vector of a picture, or of a part of it, and what the model says is in it.

examples:
  bowerbird embed cat.jpg
  bowerbird embed cat.jpg --out cat.npy           float32, unit length
  bowerbird embed cat.jpg --region 0,0,0.5,1 --json
  bowerbird embed cat.jpg --category --annotations --top 5
  bowerbird embed cat.jpg --head NAME             a head that `bowerbird status` lists
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bowerbird.cli.options import Options, add_json_option, open_connection, parse_region, read_file
from bowerbird.cli.outcome import EXIT_OK, CommandFailed, UsageWrong
from bowerbird.cli.show import format_timings, print_json, table
from bowerbird.rpc.clients import EmbedderClient

SHOWN_COMPONENTS = 6
MAX_TOP = 1000
HEADS = {
    "category": "the category",
    "annotations": "words that describe the picture",
    "attributes": "what else the model tells of a picture",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `embed`."""
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="JPEG, PNG, WebP, GIF or BMP file")
    parser.add_argument("--region", type=parse_region, metavar="X0,Y0,X1,Y1", help="only this part of the picture")
    for name, what in HEADS.items():
        parser.add_argument(f"--{name}", action="append_const", dest="heads", const=name, help=what)
    parser.add_argument(
        "--head", action="append", dest="heads", metavar="NAME", help="what this head of the model says"
    )
    parser.add_argument("--top", type=int, default=0, metavar="N", help="labels of each head, at most (10)")
    parser.add_argument("--min-score", type=float, metavar="S", help="only labels with this score or more, 0 to 1")
    parser.add_argument("--out", type=Path, metavar="FILE.npy", help="save the vector as a NumPy array")
    add_json_option(parser)


def run(arguments: Options) -> int:
    """Exit code 0."""
    if not 0 <= arguments.top <= MAX_TOP:
        raise UsageWrong(f"--top: expected 1 to {MAX_TOP}, got {arguments.top}")
    data = read_file(arguments.picture)
    with open_connection(arguments) as connection:
        answer = EmbedderClient(connection).embed(
            data,
            arguments.region,
            return_fields=["embedding", "code", *arguments.heads] if arguments.heads else (),
            top_labels=arguments.top,
            min_score=arguments.min_score,
        )
    if arguments.out:
        try:
            with arguments.out.open("wb") as file:
                np.save(file, answer.embedding)
        except OSError as error:
            raise CommandFailed(f"cannot write {arguments.out}: {error.strerror}") from error
    models = [{"name": model.name, "version": model.version} for model in answer.info.models]
    if arguments.json:
        labels = {head: [entry._asdict() for entry in found] for head, found in answer.labels.items()}
        print_json(
            {
                "models": models,
                "embedding": answer.embedding.tolist(),
                "code": answer.code.tobytes().hex(),
                **({"labels": labels} if arguments.heads else {}),
            }
        )
        return EXIT_OK
    start = ", ".join(f"{value:.4f}" for value in answer.embedding[:SHOWN_COMPONENTS])
    print(f"model      {', '.join('{name} {version}'.format(**model) for model in models)}")
    print(f"embedding  {len(answer.embedding)} dimensions, unit length: {start}, ...")
    print(f"code       {len(answer.code) * 8} bits: {answer.code.tobytes().hex()}")
    for head, found in answer.labels.items():
        print(head)
        print(table(found) if found else "  nothing with a score of its minimum")
    print(f"time       {format_timings(answer.info.timings)}")
    if arguments.out:
        print(f"wrote {arguments.out}")
    return EXIT_OK
