"""Image tokens: held for a time, within a bound, and not to be guessed."""

from __future__ import annotations

import contextlib
import threading

import pytest

from bowerbird.errors import ImageTokenExpired
from services.discovery.tokens import ImageTokens


class Clock:
    """Time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_token_brings_the_bytes_back(clock: Clock) -> None:
    """What was added comes back, as often as it is asked for."""
    tokens = ImageTokens(max_bytes=100, ttl_s=10, clock=clock)
    token = tokens.add(b"picture")
    assert tokens.get(token) == tokens.get(token) == b"picture"


def test_tokens_are_random(clock: Clock) -> None:
    """The same bytes get another token each time, 128 bits long."""
    tokens = ImageTokens(max_bytes=10_000, ttl_s=10, clock=clock)
    made = {tokens.add(b"picture") for _ in range(100)}
    assert len(made) == 100
    assert all(len(bytes.fromhex(token)) == 16 for token in made)


@pytest.mark.parametrize("token", ["", "0" * 32, "nonsense"])
def test_unknown_tokens_are_refused(clock: Clock, token: str) -> None:
    """A token that was never given says that the picture has to be sent again."""
    with pytest.raises(ImageTokenExpired, match="send the picture again") as caught:
        ImageTokens(max_bytes=100, ttl_s=10, clock=clock).get(token)
    assert caught.value.field == "source.image_token"


def test_tokens_expire_after_their_last_use(clock: Clock) -> None:
    """Use keeps a picture; ttl_s seconds without use drop it and free its bytes."""
    tokens = ImageTokens(max_bytes=100, ttl_s=10, clock=clock)
    used, unused = tokens.add(b"used"), tokens.add(b"unused")
    clock.now = 9.0
    tokens.get(used)
    clock.now = 18.9
    assert tokens.get(used) == b"used"
    with pytest.raises(ImageTokenExpired):
        tokens.get(unused)
    assert tokens.size_bytes == len(b"used")
    clock.now = 28.9
    with pytest.raises(ImageTokenExpired):
        tokens.get(used)
    assert tokens.size_bytes == 0


def test_the_least_recently_used_makes_room(clock: Clock) -> None:
    """Bytes are bounded; the picture used last survives."""
    tokens = ImageTokens(max_bytes=20, ttl_s=10, clock=clock)
    first, second = tokens.add(b"1" * 10), tokens.add(b"2" * 10)
    tokens.get(first)
    third = tokens.add(b"3" * 10)
    assert tokens.size_bytes == 20
    assert tokens.get(first) == b"1" * 10
    assert tokens.get(third) == b"3" * 10
    with pytest.raises(ImageTokenExpired):
        tokens.get(second)


def test_a_picture_larger_than_the_bound_is_not_held(clock: Clock) -> None:
    """It gets a token that has expired already, and pushes nothing else over the bound."""
    tokens = ImageTokens(max_bytes=5, ttl_s=10, clock=clock)
    with pytest.raises(ImageTokenExpired):
        tokens.get(tokens.add(b"too large"))
    assert tokens.size_bytes == 0


def test_many_threads_keep_the_count() -> None:
    """Adding and asking from many threads leaves the bytes within the bound and counted right."""
    tokens = ImageTokens(max_bytes=1000, ttl_s=10)

    def work() -> None:
        for _ in range(200):
            token = tokens.add(b"x" * 10)
            with contextlib.suppress(ImageTokenExpired):
                tokens.get(token)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert tokens.size_bytes == 1000
