"""Health of every service, indexes with their items, and the models that run.

examples:
  bowerbird status
  bowerbird status --json | jq .indexes

exit codes: 0 all services are ready, 1 some are not, 3 nothing answers
"""

from __future__ import annotations

import argparse
from typing import Any

from bowerbird.cli.options import Options, add_json_option, open_connection
from bowerbird.cli.outcome import EXIT_FAILED, EXIT_OK
from bowerbird.cli.show import print_json, table
from bowerbird.rpc.clients import (
    Connection,
    DetectorClient,
    DetectorModel,
    EmbedderClient,
    EmbedderModel,
    RetrievalClient,
)

SERVICES = ("Discovery", "Detector", "Embedder", "Retrieval", "Index", "IndexAdmin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `status`."""
    add_json_option(parser)


def run(arguments: Options) -> int:
    """Exit code 0 when all services are ready, else 1."""
    with open_connection(arguments) as connection:
        report = gather(connection)
    if arguments.json:
        print_json(report)
    else:
        print(render(report))
    return EXIT_OK if report["ready"] else EXIT_FAILED


def gather(connection: Connection) -> dict[str, Any]:
    """State of the server as plain values; models and indexes are asked for only where the service is ready.

    Raises:
        BowerbirdError: nothing answers, or the token does not allow it.
    """
    services = {name: connection.health(f"bowerbird.v1.{name}Service") for name in SERVICES}
    models = []
    if services["Embedder"]:
        models.append(_describe_model("embedder", EmbedderClient(connection).get_model()))
    if services["Detector"]:
        models.append(_describe_model("detector", DetectorClient(connection).get_model()))
    indexes = [
        {
            "name": index.name,
            "items": index.items,
            "dimension": index.dimension,
            "code_bits": index.code_bits,
            "backend": index.backend,
            "model": index.model.name,
            "created": index.create_time.isoformat(timespec="seconds"),
        }
        for index in (RetrievalClient(connection).list_indexes() if services["Retrieval"] else ())
    ]
    return {
        "target": connection.target,
        "ready": connection.health(),
        "services": services,
        "models": models,
        "indexes": indexes,
    }


def render(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"{'ready' if report['ready'] else 'NOT READY'} at {report['target']}", "", "services"]
    lines.append(table([(name, "ready" if ready else "NOT READY") for name, ready in report["services"].items()]))
    if report["models"]:
        lines += ["", "models"]
        lines.append(
            table(
                [
                    (m["role"], m["name"], m["version"], m["backend"], ", ".join(m.get("heads", ())))
                    for m in report["models"]
                ]
            )
        )
    lines += ["", "indexes"]
    rows = [
        (i["name"], i["items"], f"{i['dimension']}-d, {i['code_bits']} bits", i["backend"], i["model"])
        for i in report["indexes"]
    ]
    header = ("name", "items", "vectors", "scan", "model")
    lines.append(table(rows, header=header) if rows else "  none yet; make one with: bowerbird index FOLDER")
    return "\n".join(lines)


def _describe_model(role: str, model: EmbedderModel | DetectorModel) -> dict[str, Any]:
    return {
        "role": role,
        "name": model.model.name,
        "version": model.model.version,
        "backend": model.backend,
        "input": [model.input_width, model.input_height],
        "max_batch_size": model.max_batch_size,
        **({"heads": {head.name: head.labels for head in model.heads}} if isinstance(model, EmbedderModel) else {}),
    }
