"""The manifests, their overlays and the image say only what the product understands.

What is checked: schemas, names, settings, ports, probes, policies, and that every overlay applies. Not checked: a
cluster. Nothing here has been scheduled by one.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import kubernetes_validate
import pytest
import yaml

import bowerbird
from bowerbird import config
from bowerbird.models.settings import ModelsConfig
from bowerbird.rpc import health
from bowerbird.rpc.server import ServerConfig
from services.detector.config import DetectorConfig
from services.discovery.config import DiscoveryConfig
from services.embedder.config import EmbedderConfig
from services.retrieval.config import RetrievalConfig
from tests.contract import kustomization
from tests.contract.kustomization import Manifest, OverlayError

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
FOLDERS = ["base", *(f"overlays/{path.name}" for path in sorted((K8S / "overlays").iterdir()))]
# Workload -> the services that its process runs.
TOGETHER = {"bowerbird": {"detector", "discovery", "embedder", "retrieval"}}
APART = {name: {name} for name in TOGETHER["bowerbird"]}
SETTINGS = {
    "server": ServerConfig,
    "models": ModelsConfig,
    "detector": DetectorConfig,
    "embedder": EmbedderConfig,
    "retrieval": RetrievalConfig,
    "discovery": DiscoveryConfig,
}
WITH_MODELS = {"detector", "embedder"}
CONFIG_FOLDER = "/etc/bowerbird"
# The oldest release with everything the manifests use (ReadWriteOncePod is stable there), and the newest we know.
KUBERNETES = ("1.29", kubernetes_validate.latest_version())


@pytest.fixture(scope="module", params=FOLDERS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return kustomization.render(K8S / request.param)


def workloads(manifests: list[Manifest]) -> Iterator[Manifest]:
    found = [m for m in manifests if m["kind"] in ("Deployment", "StatefulSet")]
    assert {m["metadata"]["name"] for m in found} in (set(APART), set(TOGETHER))
    return iter(found)


def sections(workload: Manifest) -> set[str]:
    """The sections of settings that the process of this workload reads."""
    services = {**APART, **TOGETHER}[workload["metadata"]["name"]]
    return {"server", *services, *(["models"] if services & WITH_MODELS else [])}


def stateful(manifests: list[Manifest]) -> Manifest:
    (only,) = (m for m in manifests if m["kind"] == "StatefulSet")
    return only


def pod(workload: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def container(workload: Manifest) -> dict[str, Any]:
    (only,) = pod(workload)["containers"]
    assert isinstance(only, dict)
    return only


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


# ------------------------------------------------------------------------------------------------- schema and overlays


@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_follow_the_schema(manifests: list[Manifest], version: str) -> None:
    """Every manifest is valid, unknown keys refused."""
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_base_files_are_valid_without_kustomize() -> None:
    """Every file of the base can be applied as it is: all it lacks is the namespace."""
    listed = yaml.safe_load((K8S / "base/kustomization.yaml").read_text())["resources"]
    files = {path.name for path in (K8S / "base").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == files
    for name in files:
        for manifest in kustomization.load(K8S / "base" / name):
            kubernetes_validate.validate(manifest, KUBERNETES[-1], strict=True)


def test_volume_shell_is_valid_and_mounts_the_store() -> None:
    """The pod of the runbooks is valid, restricted like the others, and mounts the claim of retrieval."""
    (shell,) = kustomization.load(K8S / "tools/volume.yaml")
    kubernetes_validate.validate(shell, KUBERNETES[-1], strict=True)
    retrieval = stateful(kustomization.render(K8S / "base"))
    assert shell["spec"]["securityContext"] == pod(retrieval)["securityContext"]
    (only,) = shell["spec"]["containers"]
    assert (only["image"], only["securityContext"]) == (
        container(retrieval)["image"],
        container(retrieval)["securityContext"],
    )
    (volume,) = shell["spec"]["volumes"]
    claim = retrieval["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == f"{claim}-{retrieval['metadata']['name']}-0"


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_renders_the_same(folder: str) -> None:
    """Where kubectl is installed, its kustomize gives what our check gives."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: only our own reading of the overlays is checked")
    run = subprocess.run(["kubectl", "kustomize", str(K8S / folder)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    theirs = [m for m in yaml.safe_load_all(run.stdout) if m is not None]
    ours = kustomization.render(K8S / folder)
    key = lambda m: (m["kind"], m["metadata"]["name"])  # noqa: E731
    assert sorted(ours, key=key) == sorted(theirs, key=key)


def test_prod_applies_on_gpu_nodes_too() -> None:
    """The one line that the README says to change in prod is all there is to change."""
    text = (K8S / "overlays/prod/kustomization.yaml").read_text()
    assert "- ../cpu\n" in text
    rendered = kustomization.render_text(text.replace("- ../cpu\n", "- ../gpu\n"), K8S / "overlays/prod")
    assert any("nvidia.com/gpu" in container(w)["resources"]["limits"] for w in workloads(rendered))


@pytest.mark.parametrize(
    ("patch", "complaint"),
    [
        ({"target": {"kind": "Deployment", "name": "nobody"}, "patch": "[]"}, "nothing is selected"),
        (
            {"target": {"name": "embedder", "kind": "Deployment"}, "patch": "[{op: remove, path: /spec/absent}]"},
            "'absent' does not exist",
        ),
        ({"target": {"kind": "Deployment"}, "patch": "spec: {replicas: 1}"}, "merge patch"),
    ],
)
def test_overlay_check_refuses_what_does_not_apply(patch: dict[str, Any], complaint: str) -> None:
    """A patch without a target, a path that is missing and a merge patch raise."""
    text = json.dumps({"resources": ["../../base"], "patches": [patch]})
    with pytest.raises(OverlayError, match=complaint):
        kustomization.render_text(text, K8S / "overlays/dev")


# ------------------------------------------------------------------------------------------------------------ settings


def environment(workload: Manifest, manifests: list[Manifest], mounts: Path) -> dict[str, str]:
    """The variables of the container, its mounted files copied below `mounts`."""
    requests = container(workload)["resources"]["requests"]
    variables: dict[str, str] = {}
    for entry in container(workload).get("env", []):
        if "value" in entry:
            variables[entry["name"]] = entry["value"].replace(CONFIG_FOLDER, str(mounts))
        elif "resourceFieldRef" in entry["valueFrom"]:
            assert entry["valueFrom"]["resourceFieldRef"]["resource"] == "requests.cpu"
            variables[entry["name"]] = str(math.ceil(cores(requests["cpu"])))
        else:
            variables[entry["name"]] = "the value of a secret"
    for volume in pod(workload)["volumes"]:
        write_volume(volume, workload, manifests, mounts)
    return variables


def write_volume(volume: dict[str, Any], workload: Manifest, manifests: list[Manifest], mounts: Path) -> None:
    (mounted,) = [m["mountPath"] for m in container(workload)["volumeMounts"] if m["name"] == volume["name"]]
    folder = Path(mounted.replace(CONFIG_FOLDER, str(mounts)))
    if "configMap" in volume:
        content = of_kind(manifests, "ConfigMap")[volume["configMap"]["name"]]["data"]
    elif "secret" in volume:
        content = {item["path"]: "" for item in volume["secret"]["items"]}
    else:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name).write_text(text.replace(CONFIG_FOLDER, str(mounts)))


def cores(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def server_settings(workload: Manifest, manifests: list[Manifest], mounts: Path) -> ServerConfig:
    return config.load(ServerConfig, "server", environ=environment(workload, manifests, mounts))


def test_services_accept_their_settings(manifests: list[Manifest], tmp_path: Path) -> None:
    """Every key and variable of the manifests is a setting of the service that gets it, with a legal value."""
    for workload in workloads(manifests):
        name = workload["metadata"]["name"]
        variables = environment(workload, manifests, tmp_path / name)
        config.check_sections(sections(workload), environ=variables)
        for section in sections(workload):
            config.load(SETTINGS[section], section, environ=variables)
        ours = {key for key in variables if key.startswith(config.PREFIX)} - {config.CONFIG_FILE_VARIABLE}
        read = tuple(f"{config.PREFIX}{section.upper()}_" for section in sections(workload))
        stray = {key for key in ours if not key.startswith(read)}
        assert not stray, f"{name}: no setting reads {stray}"


def test_pods_run_a_service_that_exists(manifests: list[Manifest]) -> None:
    """The container's argument is the module of the service, and the image is of this version."""
    for workload in workloads(manifests):
        (module,) = container(workload)["args"]
        name = workload["metadata"]["name"]
        assert module == ("services" if name in TOGETHER else f"services.{name}")
        assert importlib.util.find_spec(f"{module}.__main__") is not None
        tag = container(workload)["image"].rpartition(":")[2]
        assert re.fullmatch(rf"{re.escape(bowerbird.__version__)}(-gpu)?", tag), tag


def test_pods_outlive_their_drain(manifests: list[Manifest], tmp_path: Path) -> None:
    """Kubernetes waits longer than the server needs to drain, so that no call is cut off."""
    for workload in workloads(manifests):
        settings = server_settings(workload, manifests, tmp_path / workload["metadata"]["name"])
        assert pod(workload)["terminationGracePeriodSeconds"] > settings.drain_delay_s + settings.grace_s


def test_drain_lets_calls_with_the_default_deadline_end(manifests: list[Manifest], tmp_path: Path) -> None:
    """The grace period covers every method's default deadline; snapshots may be cut, they leave nothing behind."""
    for workload in workloads(manifests):
        settings = server_settings(workload, manifests, tmp_path / workload["metadata"]["name"])
        for name in {**APART, **TOGETHER}[workload["metadata"]["name"]]:
            module = importlib.import_module(f"services.{name}.server")
            methods = [item for service in module.build_services(MagicMock()) for item in service.methods.items()]
            longest = max(m.default_deadline_s for method, m in methods if not method.endswith("Snapshot"))
            assert settings.grace_s >= longest


# ---------------------------------------------------------------------------------------------------- ports and probes


def test_ports_are_those_of_the_server(manifests: list[Manifest], tmp_path: Path) -> None:
    """Containers, Services, policies and probes name the ports that the server listens on, on all addresses."""
    for workload in workloads(manifests):
        name = workload["metadata"]["name"]
        settings = server_settings(workload, manifests, tmp_path / name)
        assert settings.host in ("0.0.0.0", "::")
        expected = {"grpc": settings.port, "metrics": settings.admin_port}
        assert {p["name"]: p["containerPort"] for p in container(workload)["ports"]} == expected
        service = of_kind(manifests, "Service")[name]["spec"]
        assert service["clusterIP"] == "None"
        assert {p["name"]: p["port"] for p in service["ports"]} == expected
        assert {p["name"]: p["targetPort"] for p in service["ports"]} == {"grpc": "grpc", "metrics": "metrics"}
        policy = of_kind(manifests, "NetworkPolicy")[name]["spec"]
        opened = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
        assert sorted(opened) == sorted(expected.values())


def test_probes_ask_for_names_that_the_server_answers(manifests: list[Manifest], tmp_path: Path) -> None:
    """Start, readiness and liveness are probed over gRPC, or over HTTP where TLS keeps the kubelet out."""
    for workload in workloads(manifests):
        settings = server_settings(workload, manifests, tmp_path / workload["metadata"]["name"])
        spec = container(workload)
        probes = [spec[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
        if settings.has_tls:  # the kubelet speaks no TLS in gRPC probes
            paths = [probe["httpGet"]["path"] for probe in probes]
            assert paths == ["/startupz", "/readyz", "/livez"]
            assert all(probe["httpGet"]["port"] == "metrics" and "grpc" not in probe for probe in probes)
        else:
            asked = [probe["grpc"].get("service", "") for probe in probes]
            assert asked == [health.STARTUP, "", health.LIVENESS]
            assert all(probe["grpc"]["port"] == settings.port for probe in probes)


# --------------------------------------------------------------------------------------------- what guards the cluster


def test_pods_are_restricted(manifests: list[Manifest]) -> None:
    """No root, no privileges, no writable image, no cluster credentials, no service variables; memory has a limit."""
    for workload in workloads(manifests):
        spec, only = pod(workload), container(workload)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        account = of_kind(manifests, "ServiceAccount")[spec["serviceAccountName"]]
        assert account["automountServiceAccountToken"] is False
        assert only["resources"]["limits"]["memory"] == only["resources"]["requests"]["memory"]


def test_no_cpu_limit(manifests: list[Manifest]) -> None:
    """CPU is requested and not limited: a quota would stop the threads of a batch."""
    for workload in workloads(manifests):
        assert "cpu" not in container(workload)["resources"]["limits"]
        assert cores(container(workload)["resources"]["requests"]["cpu"]) > 0


def test_selectors_find_their_pods(manifests: list[Manifest]) -> None:
    """Services, budgets, policies and autoscalers select pods and workloads that exist."""
    labels = {w["metadata"]["name"]: w["spec"]["template"]["metadata"]["labels"] for w in workloads(manifests)}
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            assert target["name"] in of_kind(manifests, target["kind"])
            continue
        wanted = {
            "Service": lambda s: s["selector"],
            "PodDisruptionBudget": lambda s: s["selector"]["matchLabels"],
            "NetworkPolicy": lambda s: s["podSelector"]["matchLabels"],
            "Deployment": lambda s: s["selector"]["matchLabels"],
            "StatefulSet": lambda s: s["selector"]["matchLabels"],
        }.get(manifest["kind"])
        if wanted is not None:
            selector = wanted(spec)
            assert any(selector.items() <= pod_labels.items() for pod_labels in labels.values()), manifest["metadata"]


def test_store_has_one_writer(manifests: list[Manifest]) -> None:
    """The store's process is one pod that nothing scales; where services are apart, its volume takes one pod."""
    workload = stateful(manifests)
    assert workload["spec"]["replicas"] == 1
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    together = workload["metadata"]["name"] in TOGETHER
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce" if together else "ReadWriteOncePod"]
    scaled = {m["spec"]["scaleTargetRef"]["name"] for m in of_kind(manifests, "HorizontalPodAutoscaler").values()}
    assert workload["metadata"]["name"] not in scaled


def test_store_is_on_the_volume(manifests: list[Manifest], tmp_path: Path) -> None:
    """The directory that retrieval writes to is the mounted claim."""
    workload = stateful(manifests)
    settings = config.load(RetrievalConfig, "retrieval", environ=environment(workload, manifests, tmp_path))
    mounts = {m["mountPath"]: m["name"] for m in container(workload)["volumeMounts"]}
    assert mounts[str(settings.data_dir)] == workload["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]


def test_discovery_reaches_its_neighbours(manifests: list[Manifest], tmp_path: Path) -> None:
    """The targets of discovery are Services of the same rendering, and the policies on both sides let it through."""
    found = of_kind(manifests, "Deployment").get("discovery")
    if found is None:
        assert stateful(manifests)["metadata"]["name"] in TOGETHER  # it calls its own process
        return
    settings = config.load(DiscoveryConfig, "discovery", environ=environment(found, manifests, tmp_path))
    policies = of_kind(manifests, "NetworkPolicy")
    ((allowed,),) = (
        [each["podSelector"]["matchExpressions"] for each in rule["to"] if "podSelector" in each]
        for rule in policies["discovery"]["spec"]["egress"][:1]
    )
    for name in ("detector", "embedder", "retrieval"):
        port = of_kind(manifests, "Service")[name]["spec"]["ports"][0]["port"]
        assert getattr(settings, f"{name}_target") == f"dns:///{name}:{port}"
        assert name in allowed[0]["values"]
        callers = [c for rule in policies[name]["spec"]["ingress"] for c in rule["from"]]
        assert {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "discovery"}}} in callers


def test_queues_scale_out_before_they_shed(manifests: list[Manifest], tmp_path: Path) -> None:
    """The autoscaler's target is at most half of what a pod queues before it refuses work."""
    deployments = of_kind(manifests, "Deployment")
    for name, autoscaler in of_kind(manifests, "HorizontalPodAutoscaler").items():
        for metric in autoscaler["spec"]["metrics"]:
            if metric["type"] != "Pods":
                continue
            variables = environment(deployments[name], manifests, tmp_path / name)
            limit = config.load(SETTINGS[name], name, environ=variables).max_queue
            assert 0 < int(metric["pods"]["target"]["averageValue"]) <= limit / 2
