"""What tests of Bowerbird, and of programs that use it, need: servers in this process, and a model without a file.

    with run_server(build_services(engine)) as (target, server), connect(target) as connection:
        client = DetectorClient(connection)

Legend: B pictures of a batch, D dimensions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.errors import InferenceFailed
from bowerbird.rpc.server import Server, ServerConfig, Service

FloatArray = npt.NDArray[np.float32]

_QUICK = ServerConfig(port=0, admin_port=-1, drain_delay_s=0.0, grace_s=5.0, heartbeat_s=0.05)


@contextmanager
def run_server(services: Sequence[Service], **settings: Any) -> Iterator[tuple[str, Server]]:
    """(`host:port`, server) of services that run in this process on free ports of loopback, warmed up and ready.

    The server is stopped, and the services closed, when the block ends.

    Args:
        services: what a service's `build_services` returns.
        settings: fields of `ServerConfig`, e.g. `admin_port=0` for one with metrics.
    """
    server = Server(dataclasses.replace(_QUICK, **settings), services)
    server.start()
    try:
        yield server.target, server
    finally:
        server.stop()


class FakeModel:
    """An `InferenceEngine` that needs no file: a fixed random projection of each picture's coarse colours.

    Equal pictures give equal outputs, similar ones similar outputs, whatever else is in the batch.

    Attributes:
        batch_sizes: of every run, in order.
        failure: message of the error that every run raises; empty: none.
    """

    backend = "fake"

    def __init__(
        self, name: str = "fake", *, dimension: int = 64, side: int = 32, output: str = "features", seed: int = 0
    ) -> None:
        self.name = name
        self.version = f"{seed:012x}"
        self.input_shape: tuple[int | None, ...] = (None, 3, side, side)
        self.batch_sizes: list[int] = []
        self.failure = ""
        self._output = output
        self._projection = np.random.default_rng(seed).standard_normal((3 * 4 * 4, dimension)).astype(np.float32)

    def run(self, batch: FloatArray, outputs: Sequence[str] | None = None) -> dict[str, FloatArray]:
        """The one output, (B, D) float32.

        Args:
            batch: (B, 3, H, W) float32, H and W at least 4.
            outputs: None, or the name of the one.
        Raises:
            InferenceFailed: `failure` is set.
        """
        if self.failure or set(outputs or ()) - {self._output}:
            raise InferenceFailed(self.failure or f"{self.name} has no outputs but {self._output}")
        self.batch_sizes.append(len(batch))
        rows = np.array_split(batch, 4, axis=2)
        cells = [cell.mean(axis=(2, 3)) for row in rows for cell in np.array_split(row, 4, axis=3)]
        vectors = [features @ self._projection for features in np.concatenate(cells, axis=1)]
        return {self._output: np.array(vectors, np.float32).reshape(len(batch), -1)}

    def warm_up(self, batch_sizes: Sequence[int], *, height: int, width: int) -> float:
        """Seconds spent: none."""
        for size in batch_sizes:
            self.run(np.zeros((size, 3, height, width), np.float32))
        self.batch_sizes.clear()
        return 0.0
