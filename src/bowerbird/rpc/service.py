"""What a service tells the runtime about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import grpc

Role = Literal["read", "write", "admin"]


def _do_nothing() -> None:
    """The default of the optional steps."""


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Method:
    """How long a call may take, and who may make it.

    Attributes:
        default_deadline_s: for callers that set none.
        max_deadline_s: longer ones are cut to this.
        role: the least one that may call; read < write < admin.
    """

    default_deadline_s: float
    max_deadline_s: float
    role: Role


@dataclass(frozen=True)
class Service:
    """One gRPC service of a process.

    Attributes:
        full_name: `bowerbird.v1.DetectorService`.
        servicer: implements its methods as plain synchronous functions; it raises `BowerbirdError`.
        register: the generated `add_..._to_server`.
        methods: one entry for each method of the contract.
        warm_up: called once before the server says that it is ready; it may take its time, and may raise.
        close: called once after the last call; brings to disk what has to be.
        is_alive: False when a thread of the service has stopped making progress; asked every second, must be quick.
    """

    full_name: str
    servicer: object
    register: Callable[[Any, grpc.Server], None]
    methods: Mapping[str, Method]
    warm_up: Callable[[], None] = _do_nothing
    close: Callable[[], None] = _do_nothing
    is_alive: Callable[[], bool] = _always
