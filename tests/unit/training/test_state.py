"""States on disk: whole or absent, bit for bit, and clear about what does not fit."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from bowerbird.errors import ConfigInvalid, ModelFileCorrupt, StorageFull  # noqa: E402
from bowerbird.training import state  # noqa: E402
from bowerbird.training.ema import Ema  # noqa: E402
from bowerbird.training.schedule import group_parameters  # noqa: E402


class Trained:
    """A small network with its optimiser and average, after some steps."""

    def __init__(self, width: int = 3, steps: int = 0) -> None:
        torch.manual_seed(width)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(4, width), torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 1)
        )
        self.optimizer = torch.optim.AdamW(group_parameters(self.net, learning_rate=0.1, weight_decay=0.1))
        self.ema = Ema(self.net, 0.9)
        for step in range(steps):
            self.learn(step)

    def learn(self, step: int) -> None:
        torch.manual_seed(step)
        self.net(torch.randn(8, 4)).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(step)

    def save(self, directory: Path, step: int, **options: object) -> Path:
        return state.save(
            directory, step=step, modules={"net": self.net}, optimizer=self.optimizer, ema=self.ema, **options
        )

    def restore(self, path: Path) -> None:
        state.load(path).restore(modules={"net": self.net}, optimizer=self.optimizer, ema=self.ema)

    def values(self) -> list[object]:
        return [*self.net.state_dict().values(), *self.ema.shadows.values()]


def test_a_restored_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Three steps, a state, three more steps: the same as six steps in one go."""
    whole, first, second = Trained(steps=6), Trained(steps=3), Trained(width=3)
    second.restore(first.save(tmp_path, 3))
    for step in range(3, 6):
        second.learn(step)
    for one, other in zip(whole.values(), second.values(), strict=True):
        assert torch.equal(one, other)


def test_the_record_comes_back(tmp_path: Path) -> None:
    """Step and extra are what was saved."""
    Trained(steps=1).save(tmp_path, 7, extra={"best": 0.5})
    loaded = state.load_latest(tmp_path)
    assert loaded is not None
    assert (loaded.step, loaded.extra) == (7, {"best": 0.5})


def test_the_newest_states_stay(tmp_path: Path) -> None:
    """Older ones go, and so does what a killed save left behind; step 10 is newer than step 9."""
    (tmp_path / ".step-00000001").mkdir()
    trained = Trained(steps=1)
    for step in (8, 9, 10):
        trained.save(tmp_path, step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000009", "step-00000010"]
    assert state.load(state.find_latest(tmp_path)).step == 10


def test_nothing_to_resume_is_none(tmp_path: Path) -> None:
    """Neither an empty directory nor an absent one holds a state."""
    assert state.load_latest(tmp_path) is None
    assert state.load_latest(tmp_path / "absent") is None


def test_another_architecture_is_named_by_its_keys(tmp_path: Path) -> None:
    """The message says which tensors differ and how, and the model is not touched before all is known."""
    path = Trained(width=3, steps=1).save(tmp_path, 1)
    with pytest.raises(ConfigInvalid, match=r"0\.weight has shape \(3, 4\), expected \(5, 4\)"):
        Trained(width=5).restore(path)


def test_missing_and_unknown_keys_are_named(tmp_path: Path) -> None:
    """Both directions are told apart."""
    trained = Trained(steps=1)
    path = trained.save(tmp_path, 1)
    trained.net = torch.nn.ModuleDict({"head": torch.nn.Linear(1, 1)})
    with pytest.raises(ConfigInvalid, match=r"head\.weight is missing.*0\.weight is unknown"):
        trained.restore(path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """A truncated file of tensors is an error that names it."""
    path = Trained(steps=1).save(tmp_path, 1)
    file = path / "net.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ModelFileCorrupt, match=r"net\.safetensors"):
        Trained().restore(path)


def test_a_directory_without_record_is_refused(tmp_path: Path) -> None:
    """Something else that is called like a state."""
    (tmp_path / "step-00000001").mkdir()
    with pytest.raises(ModelFileCorrupt, match="not a state"):
        state.load_latest(tmp_path)


def test_a_state_put_aside_is_none(tmp_path: Path) -> None:
    """A copy by another name is neither resumed from nor counted nor removed, and hinders no save."""
    trained = Trained(steps=1)
    for step in (1, 2, 3):
        newest = trained.save(tmp_path, step, keep=1)
        (tmp_path / f"step-0000000{step}-good").mkdir()
    assert state.find_latest(tmp_path) == newest
    assert len(list(tmp_path.iterdir())) == 4


def test_a_full_disk_keeps_the_earlier_state(tmp_path: Path) -> None:
    """The system refuses to write on (here by its limit on file sizes): the old state is whole, the new one absent."""
    trained = Trained(steps=1)
    old = trained.save(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, limits[1]))
    try:
        with pytest.raises(StorageFull, match="intact"):
            trained.save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == [old.name]
    Trained().restore(old)


def test_write_file_keeps_the_old_content_on_a_full_disk(tmp_path: Path) -> None:
    """Whole or not at all."""
    path = tmp_path / "model"
    state.write_file(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        with pytest.raises(StorageFull):
            state.write_file(path, b"new" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_an_unwritable_directory_is_no_full_disk(tmp_path: Path) -> None:
    """Other faults of the system come through as they are."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Trained(steps=1).save(tmp_path / "file", 1)
