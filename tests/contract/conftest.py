"""What more than one contract test needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import pytest


@pytest.fixture
def channel_to() -> Iterator[Callable[[str], grpc.Channel]]:
    """Opens plain channels that share nothing, and closes them after the test."""
    channels = []

    def connect(target: str) -> grpc.Channel:
        channels.append(grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]))
        return channels[-1]

    yield connect
    for channel in channels:
        channel.close()
