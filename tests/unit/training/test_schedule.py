"""Learning rates and weight decay."""

import pytest

torch = pytest.importorskip("torch")

from bowerbird.training.schedule import cosine_with_warmup, group_parameters, set_rates  # noqa: E402


def test_rate_rises_then_falls_like_a_cosine() -> None:
    """Linear to 1 over the warm-up, 1/2 in the middle of the rest, hardly anything at the end."""
    factors = [cosine_with_warmup(step, 110, 10) for step in range(110)]
    assert factors[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert factors[10] == 1
    assert factors[60] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.001
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_every_step_moves(warmup: int) -> None:
    """No step has rate 0, not even in a run of warm-up alone."""
    assert all(cosine_with_warmup(step, 5, warmup) > 0 for step in range(5))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.positions = torch.nn.Parameter(torch.zeros(1, 4, 2))
        self.low = torch.nn.Linear(2, 2)
        self.high = torch.nn.Linear(2, 2)
        self.norm = torch.nn.LayerNorm(2)
        self.frozen = torch.nn.Parameter(torch.zeros(2, 2), requires_grad=False)


def rates_and_decays(**options: object) -> dict[str, tuple[float, float]]:
    ids = {"positions": 0, "low.weight": 0, "low.bias": 0, "high.weight": 1, "high.bias": 1}
    groups = group_parameters(Net(), learning_rate=1.0, weight_decay=0.1, layer_ids=ids, **options)
    return {name: (group["base_rate"], group["weight_decay"]) for group in groups for name, _ in group["params"]}


def test_lower_layers_learn_slower() -> None:
    """The layer below the top at the decay, the next at its square; what has no layer at the full rate."""
    found = {name: rate for name, (rate, _) in rates_and_decays(layer_decay=0.5).items()}
    assert (found["norm.weight"], found["high.weight"], found["low.bias"]) == (1.0, 0.5, 0.25)


def test_norms_biases_and_positions_are_not_decayed() -> None:
    """Only matrices are."""
    decayed = {name for name, (_, decay) in rates_and_decays().items() if decay}
    assert decayed == {"low.weight", "high.weight"}


def test_factors_go_by_prefix_and_frozen_parameters_stay_out() -> None:
    """A factor holds for every name that begins so."""
    found = rates_and_decays(factors={"low.": 0.1})
    assert found["low.weight"][0] == found["low.bias"][0] == 0.1
    assert found["high.weight"][0] == 1.0
    assert "frozen" not in found


def test_set_rates_goes_from_the_peak() -> None:
    """Twice the same factor gives the same rate, not its square."""
    groups = group_parameters(Net(), learning_rate=2.0, weight_decay=0.0)
    set_rates(groups, 0.5)
    set_rates(groups, 0.5)
    assert {group["lr"] for group in groups} == {1.0}
