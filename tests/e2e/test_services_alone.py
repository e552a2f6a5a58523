"""Each service as a process of its own, as on Kubernetes: discovery reaches the others over the network."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bowerbird.boxes import Region
from bowerbird.errors import Unauthenticated
from bowerbird.rpc.clients import DiscoveryClient, EmbedderClient, Item, RetrievalClient, SearchParams, connect

pytestmark = pytest.mark.e2e

NAMES = ("detector", "embedder", "retrieval", "discovery")
PICTURES = Path(__file__).parents[1] / "golden/pictures"
CONCEPTS = ("banana", "bicycle", "camera", "key")
READ_TOKEN, WRITE_TOKEN = "read-only-token", "may-do-all-token"
START_TIMEOUT_S, STOP_TIMEOUT_S = 60, 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_tokens(folder: Path) -> None:
    """The servers' file of hashes, and the file from which discovery takes its own token."""
    entries = [
        f'[[tokens]]\nname = "{role}"\nsha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\nrole = "{role}"\n'
        for role, token in (("read", READ_TOKEN), ("admin", WRITE_TOKEN))
    ]
    (folder / "tokens.toml").write_text("".join(entries))
    (folder / "discovery.token").write_text(READ_TOKEN + "\n")


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[dict[str, int]]:
    """The port of each of the four processes, all ready; they end cleanly on SIGTERM."""
    write_tokens(tmp_path)
    ports = {name: free_port() for name in NAMES}
    processes = {}
    for name in NAMES:
        environment = os.environ | {
            "BOWERBIRD_SERVER_PORT": str(ports[name]),
            "BOWERBIRD_SERVER_ADMIN_PORT": "-1",
            "BOWERBIRD_SERVER_DRAIN_DELAY_S": "0",
            "BOWERBIRD_SERVER_AUTH_TOKENS_FILE": str(tmp_path / "tokens.toml"),
        }
        if name == "retrieval":
            environment["BOWERBIRD_RETRIEVAL_DATA_DIR"] = str(tmp_path / "items")
        if name == "discovery":
            environment["BOWERBIRD_DISCOVERY_AUTH_TOKEN_FILE"] = str(tmp_path / "discovery.token")
            for other in NAMES[:3]:
                environment[f"BOWERBIRD_DISCOVERY_{other.upper()}_TARGET"] = f"127.0.0.1:{ports[other]}"
        processes[name] = subprocess.Popen([sys.executable, "-m", f"services.{name}"], env=environment)
    try:
        for name in NAMES:
            with connect(f"127.0.0.1:{ports[name]}", token=READ_TOKEN) as connection:
                connection.wait_ready(START_TIMEOUT_S)
        yield ports
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        assert {name: process.wait(STOP_TIMEOUT_S) for name, process in processes.items()} == dict.fromkeys(NAMES, 0)
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def test_four_processes_answer_like_one(ports: dict[str, int]) -> None:
    """Pictures are embedded and stored, and found through discovery, which sends its own token to the others."""
    clients = {name: connect(f"127.0.0.1:{port}", token=WRITE_TOKEN) for name, port in ports.items()}
    embedder, retrieval = EmbedderClient(clients["embedder"]), RetrievalClient(clients["retrieval"])
    served = embedder.get_model()
    made = embedder.batch_embed([(PICTURES / "twemoji" / f"{name}.png").read_bytes() for name in CONCEPTS])
    retrieval.create_index(dimension=served.dimension, code_bits=served.code_bits, model=served.model)
    items = [Item(name, made.embeddings[i], made.codes[i], {"style": "twemoji"}) for i, name in enumerate(CONCEPTS)]
    retrieval.upsert(items, model=served.model)

    discovery = DiscoveryClient(clients["discovery"])
    for name in CONCEPTS:
        picture = (PICTURES / "noto" / f"{name}.png").read_bytes()
        found = discovery.search_by_image(picture, params=SearchParams(top_k=2), detect_regions=True)
        assert found.hits[0].item_id == name
        assert found.hits[0].fields == {"style": "twemoji"}
        assert {"embed.infer", "search", "detect.infer"} <= {stage for stage, _ in found.info.timings}
        again = discovery.search_by_region(found.image_token, Region(0, 0, 1, 1), params=SearchParams(top_k=2))
        assert again.hits == found.hits
    assert discovery.search_by_item("key", params=SearchParams(top_k=4)).hits[0].item_id != "key"

    with (
        connect(f"127.0.0.1:{ports['discovery']}", token="unknown") as stranger,
        pytest.raises(Unauthenticated),
    ):
        DiscoveryClient(stranger).search_by_item("key")
    for connection in clients.values():
        connection.close()
