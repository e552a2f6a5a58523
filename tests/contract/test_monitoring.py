"""Alerts, dashboards and runbooks name only what the product has, and lead to each other."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from bowerbird import telemetry
from bowerbird.cli import app, options
from bowerbird.rpc import metrics, status

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
RULES = yaml.safe_load((K8S / "alerts/rules.yaml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
DASHBOARD = json.loads((K8S / "dashboards/bowerbird.json").read_text())
RUNBOOKS = sorted(path for path in (ROOT / "docs/runbooks").glob("*.md") if path.name != "README.md")
INDEXES = [ROOT / "docs/runbooks/README.md", K8S / "README.md"]
HEADINGS = ["See", "Check", "Do", "Verify", "Escalate"]

# A name in PromQL that is followed by labels or a range, or stands where a series does.
_SERIES = re.compile(r"\b((?:bowerbird|grpc|process|python)_[a-z_0-9]+)\b(?!\s*=)")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}
_FROM_THE_SCRAPE = {"namespace", "pod", "job", "le"}


def exported() -> dict[str, set[str]]:
    """Series name -> label names, of everything that the admin port can show."""
    families = [
        (family.name, family.type, set(getattr(family, "_labelnames", ()))) for family in telemetry.REGISTRY.collect()
    ]
    families += [
        (metric._name, metric._type, set(metric._labelnames))
        for metric in vars(telemetry).values()
        if isinstance(metric, MetricWrapperBase)
    ]
    series: dict[str, set[str]] = {}
    for name, kind, labels in families:
        for suffix in _SUFFIXES.get(kind, ("",)):
            series[name + suffix] = series.get(name + suffix, set()) | labels
    return series


def expressions() -> dict[str, str]:
    """Where -> PromQL, of every rule, panel and variable."""
    found = {rule.get("alert") or rule["record"]: rule["expr"] for group in RULES["groups"] for rule in group["rules"]}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            found[f"panel {panel['title']}"] = target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        found[f"variable {variable['name']}"] = variable["query"]
    return found


def autoscaled() -> set[str]:
    """Metrics that the autoscalers and the adapter name."""
    text = "".join(path.read_text() for path in [*K8S.glob("base/*.yaml"), K8S / "alerts/adapter.yaml"])
    return set(re.findall(r"metric: \{name: (\w+)\}", text)) | set(re.findall(r"matches: (\w+)", text))


def series_in(expression: str) -> set[str]:
    """Names of series in a PromQL expression, recorded ones left out."""
    bare = re.sub(r"bowerbird:[\w:]+|\bby \([^)]*\)|, \w+\)", "", expression)
    return set(_SERIES.findall(bare))


@pytest.mark.parametrize("where", expressions())
def test_queries_name_series_that_are_exported(where: str) -> None:
    """Every metric of a rule or panel is one the admin port shows."""
    assert series_in(expressions()[where]) <= exported().keys()


@pytest.mark.parametrize("where", expressions())
def test_queries_name_labels_that_the_series_have(where: str) -> None:
    """Every label of a selector or `by` is on a series of the same query, or put there by the scrape."""
    expression, series = expressions()[where], exported()
    used = set(re.findall(r"(\w+)=~?\"", expression))
    used |= {label for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(", ")}
    known = set().union(*(series[name] for name in series_in(expression)))
    if where in ALERTS and "bowerbird:" in expression:
        known |= {"grpc_service"}
    assert used <= known | _FROM_THE_SCRAPE


def test_queries_name_something() -> None:
    """The reading of PromQL above finds metrics: a pattern that matched nothing would prove nothing."""
    text = " ".join(expressions().values())
    assert {"bowerbird_batch_queue_depth", "grpc_server_handling_seconds_bucket"} <= set(_SERIES.findall(text))
    assert set(re.findall(r"bowerbird:[\w:]+", text)) == RECORDED


def test_metrics_are_fed() -> None:
    """A metric is not only declared: some code of the product sets or counts it."""
    code = "\n".join(path.read_text() for top in ("src", "services") for path in (ROOT / top).rglob("*.py"))
    for variable, metric in vars(telemetry).items():
        if isinstance(metric, MetricWrapperBase):
            assert re.search(rf"\b{variable}\b(\.labels|\.observe|\.set|\.inc)", code), f"nothing feeds {variable}"


def test_autoscalers_use_exported_metrics() -> None:
    """The metric of the autoscalers exists, and the adapter serves it."""
    assert autoscaled() == {"bowerbird_batch_queue_depth"}
    assert autoscaled() <= exported().keys()


def test_rules_name_reasons_and_codes_that_exist() -> None:
    """`reason=` and `grpc_code=` of rules and panels are of the closed lists."""
    reasons = {status.reason_of(kind) for kind in status.walk()}
    for where, expression in expressions().items():
        for label, known in (("reason", reasons), ("grpc_code", set(metrics.CODE_NAMES.values()))):
            for value in re.findall(rf'\b{label}=~?"([^"]*)"', expression):
                assert set(value.split("|")) <= known, f"{where}: {label}={value}"


# --------------------------------------------------------------------------------------------------------- runbooks


@pytest.mark.parametrize("name", ALERTS)
def test_alerts_say_how_bad_it_is_and_what_to_do(name: str) -> None:
    """An alert pages or opens a ticket, has a summary, and its runbook is there."""
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert (ROOT / rule["annotations"]["runbook"]) in RUNBOOKS


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_runbooks_have_five_steps(runbook: Path) -> None:
    """A runbook says what one sees, what to check, do and verify, and when to escalate, and names its alerts."""
    text = runbook.read_text()
    assert re.findall(r"^## (.+)$", text, re.M) == HEADINGS
    led_here = {name for name, rule in ALERTS.items() if rule["annotations"]["runbook"].endswith(runbook.name)}
    assert led_here <= set(re.findall(r"`(Bowerbird\w+)`", text))
    assert set(re.findall(r"`(Bowerbird[A-Z]\w+)`", text)) <= set(ALERTS)


@pytest.mark.parametrize("runbook", [*RUNBOOKS, *INDEXES], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_runbooks_name_what_exists(runbook: Path) -> None:
    """Metrics, reasons and linked pages of a runbook, or of the pages that lead to it, exist."""
    text = runbook.read_text()
    assert set(re.findall(r"`(bowerbird_[a-z_]+)", text)) <= exported().keys()
    reasons = {status.reason_of(kind) for kind in status.walk()}
    assert set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", text)) <= reasons
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (runbook.parent / target).exists(), target


def command_lines() -> list[str]:
    """`bowerbird VERB ...` of the runbooks and the README of k8s, continued lines joined."""
    text = "\n".join(page.read_text() for page in [*RUNBOOKS, *INDEXES]).replace("\\\n", "")
    blocks = re.findall(r"^ *```sh\n(.*?)```", text, re.M | re.S)
    return sorted({line for block in blocks for line in re.findall(r"(?:^|-- |\" )(bowerbird .*)$", block, re.M)})


@pytest.mark.parametrize("line", command_lines())
def test_runbooks_show_commands_that_exist(line: str) -> None:
    """The command is one of the command line's, and so is each of its options."""
    verb = line.split()[1]
    assert verb in app.COMMANDS
    parser = argparse.ArgumentParser()
    importlib.import_module(f"bowerbird.cli.{verb}").add_arguments(parser)
    options.add_global_options(parser)
    known = {option for action in parser._actions for option in action.option_strings}
    assert set(re.findall(r"(--[a-z-]+)", line)) <= known


def test_commands_are_found() -> None:
    """The pattern above reads the pages: they show at least these."""
    verbs = {line.split()[1] for line in command_lines()}
    assert {"snapshot", "restore", "delete", "index"} <= verbs


# ------------------------------------------------------------------------------------------------ dashboards, promtool


def test_dashboard_is_what_its_script_writes() -> None:
    """Nobody edited the JSON by hand."""
    assert runpy.run_path(str(K8S / "dashboards/make.py"))["text"]() == (K8S / "dashboards/bowerbird.json").read_text()


def test_panels_do_not_overlap() -> None:
    """Every panel has a place of its own on the grid."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def promtool(*arguments: str) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (apt install prometheus): PromQL is not parsed, rules are not run")
    run = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_scrape_job_is_the_one_the_rules_expect() -> None:
    """Rules that name a job name the one of the scrape configuration, which reads the port called metrics."""
    (job,) = yaml.safe_load((K8S / "alerts/prometheus.yaml").read_text())["scrape_configs"]
    named = {job for query in expressions().values() for job in re.findall(r'job="(\w+)"', query)}
    assert named == {job["job_name"]}
    kept = [rule["regex"] for rule in job["relabel_configs"] if rule.get("action") == "keep"]
    assert kept == ["bowerbird", "metrics"]


def test_rules_do_what_they_promise() -> None:
    """`promtool test rules` passes: alerts fire on what they are for, and on nothing else."""
    promtool("test", "rules", str(K8S / "alerts/rules_test.yaml"))


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    """The rules' own tests expect each alert at least once."""
    tests = yaml.safe_load((K8S / "alerts/rules_test.yaml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == set(ALERTS)


def test_dashboard_queries_parse(tmp_path: Path) -> None:
    """promtool accepts every query of the dashboard."""
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", "--lint=none", str(file))
