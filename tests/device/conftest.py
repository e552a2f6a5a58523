"""What the tests of a device share: the emulated one, and the orders in which it runs threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.device_arrays import EMULATED, ORDERS, emulated_library, run_in


@pytest.fixture(scope="module", autouse=True)
def library_of_the_emulator() -> Iterator[None]:
    """Known to the kernels in these tests alone."""
    with emulated_library():
        yield


@pytest.fixture(params=ORDERS)
def order_of_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test in each of them."""
    if not EMULATED:
        yield
        return
    with run_in(request.param):
        yield
