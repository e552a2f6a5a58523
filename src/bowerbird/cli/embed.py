"""Print or save the vector of a picture, or of a part of it.

examples:
  bowerbird embed cat.jpg
  bowerbird embed cat.jpg --out cat.npy           float32, unit length
  bowerbird embed cat.jpg --region 0,0,0.5,1 --json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bowerbird.cli.options import Options, add_json_option, open_connection, parse_region, read_file
from bowerbird.cli.outcome import EXIT_OK, CommandFailed
from bowerbird.cli.show import format_timings, print_json
from bowerbird.rpc.clients import EmbedderClient

SHOWN_COMPONENTS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `embed`."""
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="JPEG, PNG, WebP, GIF or BMP file")
    parser.add_argument("--region", type=parse_region, metavar="X0,Y0,X1,Y1", help="only this part of the picture")
    parser.add_argument("--out", type=Path, metavar="FILE.npy", help="save the vector as a NumPy array")
    add_json_option(parser)


def run(arguments: Options) -> int:
    """Exit code 0."""
    data = read_file(arguments.picture)
    with open_connection(arguments) as connection:
        answer = EmbedderClient(connection).embed(data, arguments.region)
    if arguments.out:
        try:
            with arguments.out.open("wb") as file:
                np.save(file, answer.embedding)
        except OSError as error:
            raise CommandFailed(f"cannot write {arguments.out}: {error.strerror}") from error
    models = [{"name": model.name, "version": model.version} for model in answer.info.models]
    if arguments.json:
        print_json({"models": models, "embedding": answer.embedding.tolist(), "code": answer.code.tobytes().hex()})
        return EXIT_OK
    start = ", ".join(f"{value:.4f}" for value in answer.embedding[:SHOWN_COMPONENTS])
    print(f"model      {', '.join('{name} {version}'.format(**model) for model in models)}")
    print(f"embedding  {len(answer.embedding)} dimensions, unit length: {start}, ...")
    print(f"code       {len(answer.code) * 8} bits: {answer.code.tobytes().hex()}")
    print(f"time       {format_timings(answer.info.timings)}")
    if arguments.out:
        print(f"wrote {arguments.out}")
    return EXIT_OK
