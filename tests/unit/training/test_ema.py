"""The averaged weights."""

import pytest

torch = pytest.importorskip("torch")

from bowerbird.training.ema import Ema  # noqa: E402


def test_average_follows_the_weights() -> None:
    """Late steps keep `decay` of the average, early ones less; integers are not averaged."""
    net = torch.nn.BatchNorm1d(1)
    ema = Ema(net, 0.9)
    assert "num_batches_tracked" not in ema.shadows
    net.weight.data.fill_(2.0)
    ema.update(0)  # keeps (1 + 0) / (10 + 0)
    assert float(ema.shadows["weight"]) == pytest.approx(0.1 * 1 + 0.9 * 2)
    ema.update(1_000_000)
    assert float(ema.shadows["weight"]) == pytest.approx(0.9 * 1.9 + 0.1 * 2)


def test_swap_is_exact_and_ends_with_an_error_too() -> None:
    """Inside, the model has the average; afterwards both are bit for bit what they were."""
    net = torch.nn.Linear(3, 3)
    ema = Ema(net, 0.5)
    torch.nn.init.normal_(net.weight)
    live, shadow = net.weight.detach().clone(), ema.shadows["weight"].clone()
    with pytest.raises(RuntimeError), ema.swap():
        assert torch.equal(net.weight, shadow)
        raise RuntimeError
    assert torch.equal(net.weight, live)
    assert torch.equal(ema.shadows["weight"], shadow)
