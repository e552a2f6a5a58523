"""The shape of the repository that `docs/architecture.md` promises."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from benchmarks import bench_native
from bowerbird import errors, native

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "engine.py").exists())
KERNELS = sorted(path.stem for path in (ROOT / "native/include/bowerbird").glob("*.hpp"))
# Headers that are no kernel: what several kernels share, or both versions of one.
SHARED_HEADERS = {"device", "simd", "walk_rules"}


def tracked(*patterns: str) -> list[Path]:
    """Files in git that match."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).exists()]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_shape(service: str) -> None:
    """README, __main__, config, engine and server stand in every service; __main__ is short."""
    folder = ROOT / "services" / service
    for name in ("README.md", "__init__.py", "__main__.py", "config.py", "engine.py", "server.py"):
        assert (folder / name).is_file(), f"services/{service}/{name} is missing"
    assert len((folder / "__main__.py").read_text().splitlines()) < 30


def test_the_four_services_of_today_are_there() -> None:
    """No service is an empty shell and none is lost."""
    assert SERVICES == ["detector", "discovery", "embedder", "retrieval"]


@pytest.mark.parametrize("kernel", sorted(set(KERNELS) - SHARED_HEADERS))
def test_a_kernel_has_one_stem_everywhere(kernel: str) -> None:
    """Header, sources, binding, entry point, reference, property test and benchmark share one word."""
    assert (ROOT / f"native/src/{kernel}.cpp").is_file(), "no source"
    levels = [(ROOT / f"native/src/{kernel}_{level}.cpp").is_file() for level in ("portable", "avx2", "avx512")]
    assert all(levels) or not any(levels), "a level is missing"
    assert (ROOT / f"native/cuda/{kernel}.cu").is_file(), "no CUDA version"
    assert (ROOT / f"native/bindings/{kernel}.cpp").is_file(), "no binding"
    assert (ROOT / f"src/bowerbird/native/reference/{kernel}.py").is_file(), "no reference"
    assert (ROOT / f"src/bowerbird/native/kernels/{kernel}.py").is_file(), "no Python entry point"
    assert (ROOT / f"tests/property/test_native_{kernel}.py").is_file(), "no property test"
    assert callable(getattr(native, kernel))
    assert (ROOT / f"benchmarks/native/{kernel}.py").is_file(), "no benchmark"
    assert kernel in bench_native.KERNELS, "its benchmark is not run"


def test_modules_are_named_by_topic() -> None:
    """Names that say nothing are refused."""
    vague = {"utils", "util", "helpers", "helper", "misc", "common", "manager", "stuff"}
    found = [
        path for path in tracked("*.py", "*.cpp", "*.hpp") if vague & set(path.relative_to(ROOT).with_suffix("").parts)
    ]

    assert not found


def test_the_changelog_opens_with_the_version() -> None:
    """The newest heading of the changelog is the package version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert headings[0] == version
    assert f'__version__ = "{version}"' in (ROOT / "src/bowerbird/__init__.py").read_text()


def test_no_file_in_git_is_large() -> None:
    """Pictures and models that travel with the code stay small: 12 MB at most each."""
    large = [path for path in tracked() if path.stat().st_size > 12 * 2**20]

    assert not large


def test_no_unfinished_marks_in_the_code() -> None:
    """Nothing is left for later inside the code."""
    words = ("TO-DO", "FIX-ME", "XX-X", "HA-CK", "raise NotImplemented-Error")
    marks = re.compile(rf"\b({'|'.join(word.replace('-', '') for word in words)})\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked("*.py", "*.cpp", "*.hpp", "*.cu", "*.proto", "*.md")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line)
    ]

    assert not found


def test_every_rpc_has_a_contract_test() -> None:
    """Each RPC of the contract is called in tests/contract."""
    calls = "\n".join(path.read_text() for path in (ROOT / "tests/contract").glob("test_*.py"))
    rpcs = {
        rpc
        for proto in (ROOT / "protos/bowerbird/v1").glob("*.proto")
        for rpc in re.findall(r"^\s*rpc (\w+)\(", proto.read_text(), re.MULTILINE)
    }
    uncalled = sorted(rpc for rpc in rpcs if not re.search(rf"\.{rpc}\(|\b{rpc}Request\(", calls))

    assert rpcs
    assert not uncalled


def test_every_error_reason_is_expected_by_a_test() -> None:
    """Each reason of the closed list is expected by a test."""
    text = "\n".join(
        path.read_text()
        for folder in ("contract", "unit", "e2e")
        for path in (ROOT / "tests" / folder).rglob("test_*.py")
    )
    faults = [
        value for value in vars(errors).values() if isinstance(value, type) and "reason" in vars(value) and value.reason
    ]
    missing = [
        f"{fault.__name__} ({fault.reason})"
        for fault in faults
        if not re.search(rf"\b({fault.__name__}|{fault.reason})\b", text)
    ]

    assert faults
    assert not missing
