# ruff: noqa: INP001 (a script beside the file it writes, not a package)
"""Writes bowerbird.json, the Grafana dashboard. Run it after a change: python k8s/dashboards/make.py

One table of rows and panels below; everything else is layout. A test checks that the file is what this script writes,
that every metric exists in the product, and (with promtool) that every query parses.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("bowerbird.json")
COLUMNS, HEIGHT = 24, 8
WINDOW = "$__rate_interval"
PODS = 'namespace=~"$namespace"'
CALLS = f'{PODS}, grpc_service=~"$service"'
FAULTS = f'{CALLS}, grpc_code=~"Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss"'


@dataclass(frozen=True)
class Query:
    """One PromQL expression, and the legend of its lines."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A graph over time."""

    title: str
    queries: list[Query]
    unit: str = "short"
    what: str = ""


def rate(metric: str, by: str, labels: str = PODS) -> Query:
    """Events a second, summed over pods."""
    return Query(f"sum by ({by}) (rate({metric}{{{labels}}}[{WINDOW}]))", _legend(by))


def ratio(above: Query, below: Query) -> Query:
    """One query divided by the other; both by the same labels."""
    return Query(f"{above.expression} / {below.expression}", above.legend)


def mean(metric: str, by: str, labels: str = PODS) -> Query:
    """The mean of a histogram, over pods."""
    return ratio(rate(f"{metric}_sum", by, labels), rate(f"{metric}_count", by, labels))


def quantile(q: float, metric: str, by: str, labels: str = PODS) -> Query:
    """A quantile of a histogram, over pods."""
    buckets = rate(f"{metric}_bucket", f"{by}, le", labels).expression
    return Query(f"histogram_quantile({q}, {buckets})", _legend(by))


def reduced(how: str, metric: str, by: str, labels: str = PODS) -> Query:
    """A gauge, reduced over pods by sum, max or count."""
    return Query(f"{how} by ({by}) ({metric}{{{labels}}})", _legend(by))


def _legend(by: str) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in by.split(", "))


METHOD, MODEL, STAGE = "grpc_service, grpc_method", "service, model", "service, stage"
QUEUE = ratio(
    reduced("sum", "bowerbird_batch_queue_depth", f"{MODEL}, pod"),
    reduced("sum", "bowerbird_batch_queue_limit", f"{MODEL}, pod"),
)
SNAPSHOT_TIME = reduced("max", "bowerbird_snapshot_last_success_timestamp_seconds", "index")

ROWS: dict[str, list[Panel]] = {
    "Calls: rate, errors, duration": [
        Panel("Calls", [rate("grpc_server_handled_total", METHOD, CALLS)], "reqps"),
        Panel(
            "Failed by our fault",
            [
                ratio(
                    rate("grpc_server_handled_total", "grpc_service", FAULTS),
                    rate("grpc_server_handled_total", "grpc_service", CALLS),
                )
            ],
            "percentunit",
            "What the error budget counts; see docs/runbooks/error-budget.md",
        ),
        Panel("Errors by reason", [rate("bowerbird_rpc_errors_total", "reason", CALLS)], "reqps"),
        Panel("Duration, median", [quantile(0.5, "grpc_server_handling_seconds", METHOD, CALLS)], "s"),
        Panel("Duration, 99th percentile", [quantile(0.99, "grpc_server_handling_seconds", METHOD, CALLS)], "s"),
        Panel("Calls in flight", [reduced("sum", "bowerbird_rpc_in_flight", "pod", CALLS)]),
        Panel(
            "Time that callers leave us, 5th percentile",
            [quantile(0.05, "bowerbird_rpc_deadline_remaining_seconds", METHOD, CALLS)],
            "s",
        ),
        Panel("Calls without a deadline", [rate("bowerbird_rpc_no_deadline_total", METHOD, CALLS)], "reqps"),
        Panel("Bytes in", [rate("bowerbird_rpc_request_bytes_sum", METHOD, CALLS)], "Bps"),
        Panel("Bytes out", [rate("bowerbird_rpc_response_bytes_sum", METHOD, CALLS)], "Bps"),
    ],
    "Stages of a call": [
        Panel(
            "Busy seconds a second",
            [rate("bowerbird_stage_seconds_sum", STAGE)],
            what="Where the time goes, all pods together; waiting in a queue counts as a stage",
        ),
        Panel("Median", [quantile(0.5, "bowerbird_stage_seconds", STAGE)], "s"),
        Panel("99th percentile", [quantile(0.99, "bowerbird_stage_seconds", STAGE)], "s"),
    ],
    "Batching": [
        Panel(
            "Queue, share of its limit",
            [QUEUE],
            "percentunit",
            "Above 80 % for five minutes raises a ticket; see docs/runbooks/queue.md",
        ),
        Panel("Items in a batch, mean", [mean("bowerbird_batch_size", MODEL)]),
        Panel("Wait for a batch, 95th percentile", [quantile(0.95, "bowerbird_batch_queue_wait_seconds", MODEL)], "s"),
        Panel("Refused", [rate("bowerbird_shed_total", "service, reason")], "reqps"),
        Panel(
            "Computed for nobody",
            [rate("bowerbird_wasted_compute_seconds_total", "service")],
            what="Seconds of compute a second whose caller had gone",
        ),
        Panel("Model failures", [rate("bowerbird_inference_failures_total", f"{MODEL}, kind")], "reqps"),
    ],
    "Pictures and neighbours": [
        Panel("Pictures", [rate("bowerbird_image_decode_total", "format, outcome")], "reqps"),
        Panel("Pixels of a picture, median", [quantile(0.5, "bowerbird_image_pixels", "namespace")]),
        Panel(
            "Outbound calls, 95th percentile",
            [quantile(0.95, "bowerbird_client_seconds", "service, target, grpc_code")],
            "s",
        ),
    ],
    "Index": [
        Panel("Items", [reduced("max", "bowerbird_index_items", "index")]),
        Panel("Memory", [reduced("max", "bowerbird_index_memory_bytes", "index")], "bytes"),
        Panel("Items written and deleted", [rate("bowerbird_index_writes_total", "index, op, outcome")], "wps"),
        Panel("To disk, 99th percentile", [quantile(0.99, "bowerbird_store_commit_seconds", "index")], "s"),
        Panel("Age of the newest snapshot", [Query(f"time() - {SNAPSHOT_TIME.expression}", SNAPSHOT_TIME.legend)], "s"),
        Panel("A snapshot takes, mean", [mean("bowerbird_snapshot_seconds", "index")], "s"),
        Panel("Rebuilt at the last start in", [reduced("max", "bowerbird_recovery_seconds", "index")], "s"),
    ],
    "Processes": [
        Panel("Alive", [reduced("min", "bowerbird_alive", "pod, service")]),
        Panel("CPU", [rate("process_cpu_seconds_total", "pod")], what="Cores"),
        Panel("Memory", [reduced("sum", "process_resident_memory_bytes", "pod")], "bytes"),
        Panel("Pods by version", [reduced("count", "bowerbird_build_info", "version")]),
        Panel(
            "Pods by model",
            [reduced("count", "bowerbird_model_info", f"{MODEL}, version, backend")],
            what="Two versions of a model for long: a roll-out that hangs",
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "uid": "bowerbird",
        "title": "Bowerbird",
        "description": "Written by k8s/dashboards/make.py",
        "tags": ["bowerbird"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                _choice("namespace", "label_values(bowerbird_build_info, namespace)"),
                _choice("service", "label_values(grpc_server_started_total, grpc_service)"),
            ]
        },
        "panels": _layout(),
    }


def _choice(name: str, query: str) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    everything = {"selected": True, "text": "All", "value": "$__all"}
    return {
        "name": name, "type": "query", "datasource": source, "query": query, "refresh": 2,
        "multi": True, "includeAll": True, "current": everything,
    }  # fmt: skip


def _layout() -> list[dict[str, Any]]:
    """Rows from top to bottom, three panels side by side."""
    panels: list[dict[str, Any]] = []
    y, width = 0, COLUMNS // 3
    for row, members in ROWS.items():
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": row, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}}
        )
        for number, panel in enumerate(members):
            place = {"x": number % 3 * width, "y": y + 1 + number // 3 * HEIGHT, "w": width, "h": HEIGHT}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_graph(panel)})
        y += 1 + -(-len(members) // 3) * HEIGHT
    return panels


def _graph(panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    targets = [
        {"refId": chr(ord("A") + number), "datasource": source, "expr": query.expression, "legendFormat": query.legend}
        for number, query in enumerate(panel.queries)
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.what,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def text() -> str:
    """What the file contains."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(text())
