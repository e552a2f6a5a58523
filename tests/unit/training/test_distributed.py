"""Several processes as one, and the launcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from bowerbird.errors import ConfigInvalid  # noqa: E402
from bowerbird.training.distributed import (  # noqa: E402
    BUCKET_ELEMENTS,
    Rank,
    _split,
    all_reduce_gradients,
    gather_rows,
    join,
)

RANKS = 3


def launch(tmp_path: Path, body: str, processes: int = RANKS) -> subprocess.Popen[str]:
    """The launcher in a process of its own, running `body` on each rank; `out` is the directory of the test."""
    script = tmp_path / "rank.py"
    script.write_text("import sys, pathlib\nout = pathlib.Path(sys.argv[1])\n" + textwrap.dedent(body))
    command = [sys.executable, str(script), str(tmp_path)]
    starter = (
        f"import sys; from bowerbird.training.distributed import launch; sys.exit(launch({command!r}, {processes}))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", starter], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_gradients_add_up_over_ranks(tmp_path: Path) -> None:
    """All ranks get the sum, zeros where a rank or every rank has none; rows gather in order, unequal numbers too."""
    code, output = finish(
        launch(
            tmp_path,
            """
            import json, torch
            from bowerbird.training.distributed import all_reduce_gradients, gather_rows, join
            torch.set_num_threads(1)
            with join("cpu") as rank:
                parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
                parameters[0].grad = torch.full((2,), float(rank.rank + 1))
                if rank.rank == 1:
                    parameters[1].grad = torch.ones(2)
                all_reduce_gradients(parameters, rank)
                rows = gather_rows(torch.full((rank.rank, 2), rank.rank), rank)
                result = {"gradients": [p.grad.tolist() for p in parameters], "rows": rows.tolist()}
                (out / f"{rank.rank}.json").write_text(json.dumps(result))
            """,
        )
    )
    assert code == 0, output
    for rank in range(RANKS):
        result = json.loads((tmp_path / f"{rank}.json").read_text())
        assert result["gradients"] == [[6, 6], [1, 1], [0, 0]]
        assert result["rows"] == [[1, 1], [2, 2], [2, 2]]


def test_a_failed_rank_ends_the_others(tmp_path: Path) -> None:
    """The code is that of the rank that failed, and nobody waits for it."""
    start = time.monotonic()
    code, output = finish(
        launch(
            tmp_path,
            """
            import os, time
            if os.environ["RANK"] == "1":
                sys.exit(7)
            time.sleep(60)
            """,
        )
    )
    assert code == 7, output
    assert time.monotonic() - start < 50


def test_who_loses_another_rank_says_so(tmp_path: Path) -> None:
    """One line that can be caught, and not the backend's traceback over what the other rank has to say."""
    code, output = finish(
        launch(
            tmp_path,
            """
            import os
            from bowerbird.training.distributed import join, wait_for_all
            with join("cpu") as rank:
                wait_for_all(rank)
                if rank.rank == 1:
                    os._exit(7)
                try:
                    wait_for_all(rank)
                except ConnectionError as error:
                    (out / "told").write_text(str(error))
                os._exit(8)
            """,
            processes=2,
        )
    )
    assert code in (7, 8), output
    assert "another rank has ended" in (tmp_path / "told").read_text()


@pytest.mark.parametrize(
    ("sent", "heard"), [(signal.SIGINT, signal.SIGINT), (signal.SIGHUP, signal.SIGTERM)], ids=["ctrl-c", "hang-up"]
)
def test_signals_reach_every_rank_once(tmp_path: Path, sent: signal.Signals, heard: signal.Signals) -> None:
    """Ctrl-C at the launcher, or its terminal is closed: each rank hears it, and its exit code comes back."""
    process = launch(
        tmp_path,
        """
        import os, signal, time
        def note(number, frame):
            with (out / f"heard{os.environ['RANK']}").open("a") as file:
                file.write(f"{number} ")
        signal.signal(signal.SIGINT, note)
        signal.signal(signal.SIGTERM, note)
        (out / f"ready{os.environ['RANK']}").touch()
        while not (out / f"heard{os.environ['RANK']}").exists():
            time.sleep(0.02)
        time.sleep(0.3)
        sys.exit(130)
        """,
    )
    while len(list(tmp_path.glob("ready*"))) < RANKS:
        time.sleep(0.02)
    process.send_signal(sent)
    code, output = finish(process)
    assert code == 130, output
    assert [path.read_text() for path in sorted(tmp_path.glob("heard*"))] == [f"{int(heard)} "] * RANKS


def test_a_killed_rank_is_reported_as_a_shell_does(tmp_path: Path) -> None:
    """128 + 9."""
    code, _ = finish(launch(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", processes=1))
    assert code == 137


def test_alone_without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process is rank 0 of 1, and collectives are free."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join("cpu") as rank:
        assert (rank.rank, rank.world_size, rank.is_main) == (0, 1, True)
        parameter = torch.nn.Parameter(torch.zeros(2))
        all_reduce_gradients([parameter], rank)
        assert parameter.grad.tolist() == [0, 0]
        assert gather_rows(torch.ones(2, 1), rank).tolist() == [[1], [1]]
    assert "RANK" not in os.environ


def test_a_gpu_that_is_not_there_is_an_error() -> None:
    """Rather than a silent run on the processor."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigInvalid, match="no GPU"), join("cuda"):
        pass
    with pytest.raises(ConfigInvalid, match="auto, cpu or cuda"), join("tpu"):
        pass


def test_buckets_keep_order_and_types() -> None:
    """Every tensor is in one bucket; types do not mix; a large one stands alone."""
    tensors = [torch.zeros(3), torch.zeros(BUCKET_ELEMENTS), torch.zeros(2), torch.zeros(2, dtype=torch.float64)]
    buckets = list(_split(tensors))
    assert [len(bucket) for bucket in buckets] == [1, 1, 1, 1]
    assert [id(tensor) for bucket in buckets for tensor in bucket] == [id(tensor) for tensor in tensors]
    assert Rank().world_size == 1
