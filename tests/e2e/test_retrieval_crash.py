"""A retrieval server that is killed at random moments, with writes on their way, loses nothing it acknowledged."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bowerbird import errors
from bowerbird.errors import BowerbirdError
from bowerbird.rpc import clients
from bowerbird.rpc.clients import Item, RetrievalClient, SearchParams

pytestmark = pytest.mark.e2e

D, BITS = 96, 64
ROUNDS, WRITERS, IDS = 6, 3, 40
START_TIMEOUT_S = 60
Held = dict[str, int]  # item id -> version


class Server:
    """`python -m services.retrieval` on one data directory, over several lives."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.log_path = data_dir.with_name("server.log")
        self.process: subprocess.Popen[bytes] | None = None
        self.target = ""

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process and do not wait."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.target = f"127.0.0.1:{probe.getsockname()[1]}"
        environment = os.environ | {
            "BOWERBIRD_SERVER_PORT": self.target.rpartition(":")[2],
            "BOWERBIRD_SERVER_ADMIN_PORT": "-1",
            "BOWERBIRD_SERVER_DRAIN_DELAY_S": "0",
            "BOWERBIRD_RETRIEVAL_DATA_DIR": str(self.data_dir),
            "BOWERBIRD_RETRIEVAL_CHECKPOINT_BYTES": "262144",  # many checkpoints, so that kills fall into some
        }
        with self.log_path.open("ab") as log:
            command = [sys.executable, "-m", "services.retrieval"]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        return self.process

    def start(self) -> clients.Connection:
        """Start, wait until it is ready, and connect."""
        self.spawn()
        connection = clients.connect(self.target)
        try:
            connection.wait_ready(START_TIMEOUT_S)
        except BowerbirdError as error:
            raise AssertionError(f"{error}\n{self.log_path.read_text()}") from error
        return connection

    def end(self, number: int) -> int:
        """Signal the process and wait for its end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    yield server
    if server.process is not None and server.process.poll() is None:
        server.process.kill()
        server.process.wait()


def make(item_id: str, version: int) -> Item:
    """The item that this version of an id is, whole: vectors and fields say the same version."""
    rng = np.random.default_rng([version, *item_id.encode()])
    row = rng.standard_normal(D).astype(np.float32)
    row /= np.linalg.norm(row)
    fields = {"version": version, "text": f"{version}-" * 200, "half": version / 2, "even": version % 2 == 0}
    return Item(item_id, row, np.packbits(row[:BITS] > 0), fields)


class Writer(threading.Thread):
    """Writes and deletes its own ids until the server is gone; knows what was acknowledged and what was on its way."""

    def __init__(self, target: str, number: int, held: Held, seed: int) -> None:
        super().__init__()
        self.target, self.number, self.random = target, number, random.Random(seed)
        self.held = held
        self.pending = held
        self.acknowledged = 0

    def run(self) -> None:
        with clients.connect(self.target) as connection:
            client = RetrievalClient(connection)
            try:
                while True:
                    self.step(client)
            except errors.Unavailable:
                return  # killed

    def step(self, client: RetrievalClient) -> None:
        """One write; `pending` is what it leads to, `held` becomes that once it is acknowledged."""
        names = [f"w{self.number}-{n:02d}" for n in self.random.sample(range(IDS), self.random.randint(1, 12))]
        if self.random.random() < 0.25:
            self.pending = {item_id: version for item_id, version in self.held.items() if item_id not in names}
            client.delete(names)
        else:
            version = 1 + max(self.held.values(), default=0)
            self.pending = self.held | dict.fromkeys(names, version)
            assert client.upsert([make(item_id, version) for item_id in names]).written == len(names)
        self.held = self.pending
        self.acknowledged += 1


def read_back(client: RetrievalClient, number: int) -> Held:
    """Versions of the ids of one writer, each item checked to be whole in every answer."""
    found: Held = {}
    for listed in client.list_items(page_size=50):
        if not listed.item_id.startswith(f"w{number}-"):
            continue
        version = int(listed.fields["version"])
        whole, stored = make(listed.item_id, version), client.get_item(listed.item_id, include_vectors=True)
        assert stored.fields == listed.fields == whole.fields
        np.testing.assert_array_equal(stored.embedding, whole.embedding.astype(np.float16).astype(np.float32))
        np.testing.assert_array_equal(stored.code, whole.code)
        found[listed.item_id] = version
    return found


def test_kill_loses_no_acknowledged_write(server: Server) -> None:
    """After each kill every writer finds all it was told is written, and its last write whole or not at all."""
    chance = random.Random(20260101)
    states: list[Held] = [{} for _ in range(WRITERS)]
    connection = server.start()
    RetrievalClient(connection).create_index(dimension=D, code_bits=BITS)
    acknowledged = 0
    for round_ in range(ROUNDS):
        connection.close()
        writers = [Writer(server.target, n, states[n], chance.randrange(1 << 30)) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0.1, 1.0))
        server.end(signal.SIGKILL)
        for writer in writers:
            writer.join(30)
            assert not writer.is_alive()
        connection = server.start()
        client = RetrievalClient(connection)
        for number, writer in enumerate(writers):
            found = read_back(client, number)
            assert found in (writer.held, writer.pending), f"round {round_}, writer {number}"
            states[number] = found
            acknowledged += writer.acknowledged
        assert client.get_index().items == sum(map(len, states))
        check_search(client, states)
    assert acknowledged > 10 * ROUNDS
    connection.close()
    assert server.end(signal.SIGTERM) == 0


def check_search(client: RetrievalClient, states: list[Held]) -> None:
    """Search finds what is stored, and nothing else."""
    stored = {item_id: version for held in states for item_id, version in held.items()}
    query = make("query", 1)
    hits = client.search(query.embedding, code=query.code, params=SearchParams(top_k=1000)).hits
    assert {hit.item_id: hit.fields["version"] for hit in hits} == stored


def test_kill_during_a_snapshot_leaves_whole_snapshots_only(server: Server) -> None:
    """What is listed after the kill can be restored; what was unfinished is gone from the disk."""
    connection = server.start()
    client = RetrievalClient(connection)
    client.create_index(dimension=D, code_bits=BITS)
    for start in range(0, 6000, 1000):
        client.upsert([make(f"w0-{n}", 1) for n in range(start, start + 1000)])
    whole = client.create_snapshot()
    killer = threading.Timer(0.03, server.end, (signal.SIGKILL,))

    def kill_soon(_done: float) -> None:
        if not killer.is_alive():
            killer.start()

    with pytest.raises(BowerbirdError):
        for _ in range(100):
            client.create_snapshot(on_progress=kill_soon if killer.ident is None else None)
    killer.join()
    connection.close()
    with server.start() as connection:
        client = RetrievalClient(connection)
        listed = client.list_snapshots()
        assert whole.snapshot_id in {snapshot.snapshot_id for snapshot in listed}
        for number, snapshot in enumerate(listed[:3]):
            assert client.restore_snapshot(snapshot.snapshot_id, f"copy-{number}").items == 6000
    directories = {path.name for path in (server.data_dir / "snapshots").iterdir()}
    assert directories == {snapshot.snapshot_id for snapshot in listed}


def test_second_process_on_the_directory_is_refused(server: Server, tmp_path: Path) -> None:
    """One process at a time: the second says who has the directory, and ends."""
    with server.start():
        second = Server(server.data_dir)
        second.log_path = tmp_path / "second.log"
        assert second.spawn().wait(30) != 0
        assert server.process is not None
        assert f"in use by process {server.process.pid}" in second.log_path.read_text()


def test_damaged_store_is_refused_at_start(server: Server) -> None:
    """The server names the damaged file and does not start on it."""
    with server.start() as connection:
        client = RetrievalClient(connection)
        client.create_index(dimension=D, code_bits=BITS)
        client.upsert([make(f"w0-{n}", 1) for n in range(100)])
    assert server.end(signal.SIGTERM) == 0
    path = server.data_dir / "indexes" / "default" / "items.db"
    raw = path.read_bytes()
    at = raw.index(make("w0-7", 1).embedding.astype(np.float16).tobytes()) + 5
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    assert server.spawn().wait(60) != 0
    log = server.log_path.read_text()
    assert str(path) in log
    assert "fails its checksum" in log


def test_full_disk_refuses_writes_and_keeps_the_store(tmp_path: Path) -> None:
    """On a disk that is really full a write is refused with STORAGE_FULL; freed space makes writes work again."""
    probe = ["unshare", "-rm", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs unprivileged user namespaces, to mount a small file system")
    mount = tmp_path / "small"
    mount.mkdir()
    script = f"""
mount -t tmpfs -o size=3m none {mount} && exec {sys.executable} - {mount} <<'PYTHON'
{FULL_DISK}
PYTHON
"""
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "store intact" in done.stdout


FULL_DISK = """
import pathlib, sys
import numpy as np
from bowerbird.errors import StorageFull
from services.retrieval.config import RetrievalConfig
from services.retrieval.engine import RetrievalEngine
from services.retrieval.items import Item, SearchParams

root = pathlib.Path(sys.argv[1])
ballast = root / "ballast"
ballast.write_bytes(b"x" * 1_500_000)
config = RetrievalConfig(data_dir=root / "data")
engine = RetrievalEngine.open(config)
engine.create_index("default", dimension=64, code_bits=0)
row = np.full(64, 0.125, np.float32)
written = refused = 0
for start in range(0, 100_000, 50):
    try:
        items = [Item(f"{start + n:06d}", row, None, {"text": "y" * 500}) for n in range(50)]
        written += engine.upsert_items("default", items).written
    except StorageFull as error:
        refused += 1
        break
assert written and refused, (written, refused)
try:
    engine.create_snapshot("default")
    raise SystemExit("a snapshot fitted on a full disk")
except StorageFull:
    assert engine.list_snapshots() == [] and not list((root / "data" / "snapshots").iterdir())
try:
    engine.create_index("second", dimension=64, code_bits=0)
except StorageFull:
    pass
assert engine.get_index("default").items == written
assert len(engine.search("default", row[None], None, SearchParams(top_k=1000)).hits[0]) == min(written, 1000)
ballast.unlink()
assert engine.upsert_items("default", [Item("after", row)]).written == 1
engine.close()
engine = RetrievalEngine.open(config)
assert engine.get_index("default").items == written + 1
engine.close()
print("store intact")
"""
