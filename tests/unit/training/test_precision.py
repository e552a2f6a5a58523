"""The format is what was asked for, or what was measured to be faster."""

import time

import pytest

torch = pytest.importorskip("torch")

from bowerbird.errors import ConfigInvalid  # noqa: E402
from bowerbird.training import precision  # noqa: E402

CPU = torch.device("cpu")


def slow_in(slow: object) -> object:
    def work(dtype: object) -> None:
        time.sleep(0.01 if dtype == slow else 0.001)

    return work


@pytest.mark.parametrize(("wanted", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_what_is_asked_for_is_taken(wanted: str, dtype: object) -> None:
    """Nothing is measured then."""
    assert precision.choose(CPU, wanted) == dtype


def test_an_unknown_format_is_refused() -> None:
    """With the known ones named."""
    with pytest.raises(ConfigInvalid, match="auto, fp32, bf16"):
        precision.choose(CPU, "fp16")


@pytest.mark.parametrize(
    ("products", "network", "dtype"),
    [
        (torch.float32, torch.float32, torch.bfloat16),
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float32, torch.float32),
    ],
)
def test_both_products_and_network_must_gain(
    monkeypatch: pytest.MonkeyPatch, products: object, network: object, dtype: object
) -> None:
    """A processor with fast products is not enough, if the network gains nothing by them."""
    monkeypatch.setattr(precision, "_multiply_alone", slow_in(products))
    assert precision.choose(CPU, "auto", slow_in(network)) == dtype


def test_measuring_takes_little_time_and_leaves_the_threads() -> None:
    """Whatever this processor is, it answers, quickly enough to ask at every start."""
    threads, start = torch.get_num_threads(), time.perf_counter()
    assert precision.choose(CPU, "auto") in (torch.float32, torch.bfloat16)
    assert time.perf_counter() - start < 10
    assert torch.get_num_threads() == threads


def test_autocast_is_off_for_float32() -> None:
    """Entered all the same, so that callers need no branch."""
    for dtype in (torch.float32, torch.bfloat16):
        with precision.autocast(CPU, dtype):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
