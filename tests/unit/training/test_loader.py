"""The loader: the same batches whatever the workers, resumable, honest about unreadable pictures, closed cleanly."""

import io
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from bowerbird.errors import ArgumentInvalid, ImageDecodeFailed, ItemNotFound  # noqa: E402
from bowerbird.training.augment import Augment, AugmentConfig, Evaluate  # noqa: E402
from bowerbird.training.dataset import PictureFiles, PictureTable  # noqa: E402
from bowerbird.training.loader import Loader  # noqa: E402
from bowerbird.training.sampler import ClassBalancedSampler, ShuffledSampler  # noqa: E402

MEAN, STD = (127.5,) * 3, (63.75,) * 3
COUNT = 30


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for n in range(COUNT):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (20 + n, 40, 3), np.uint8)).save(file, "PNG" if n % 2 else "JPEG")
        (root / f"{n}.png").write_bytes(file.getvalue())
    return PictureTable(PictureFiles(root, [f"{n}.png" for n in range(COUNT)]), {})


def augment():
    return Augment(16, AugmentConfig.from_preset("strong"), mean=MEAN, std=STD, seed=1)


def take(loader, count):
    with loader:
        return [next(loader) for _ in range(count)]


def assert_equal(batches, others):
    for one, other in zip(batches, others, strict=True):
        assert one.step == other.step
        assert (one.indices == other.indices).all()
        assert torch.equal(one.pictures, other.pictures)


@pytest.mark.parametrize(
    "options", [{"workers": 1}, {"workers": 3, "prefetch": 1}, {"workers": 2, "cache_bytes": 10**6}]
)
def test_batches_are_bit_equal_whatever_the_workers_and_the_cache(table, options):
    sampler = ShuffledSampler(COUNT, 8)
    assert_equal(
        take(Loader(table, sampler, augment(), workers=0), 12), take(Loader(table, sampler, augment(), **options), 12)
    )


def test_resuming_at_a_step_gives_the_batches_that_were_to_come(table):
    sampler = ShuffledSampler(COUNT, 8)
    whole = take(Loader(table, sampler, augment()), 9)
    assert_equal(whole[5:], take(Loader(table, sampler, augment(), start_step=5), 4))


def test_ranks_together_have_the_pictures_of_one_process(table):
    sampler = ShuffledSampler(COUNT, 8)
    [alone] = take(Loader(table, sampler, augment()), 1)
    ranks = [take(Loader(table, sampler, augment(), rank=rank, world_size=2), 1)[0] for rank in range(2)]
    assert torch.equal(alone.pictures, torch.cat([batch.pictures for batch in ranks]))


def test_a_batch_has_the_promised_shape_type_and_layout(table):
    [batch] = take(Loader(table, ShuffledSampler(COUNT, 8), augment()), 1)
    assert batch.pictures.shape == (8, 3, 16, 16)
    assert batch.pictures.dtype == torch.float32
    assert batch.pictures.is_contiguous(memory_format=torch.channels_last)
    assert batch.indices.dtype == np.int64


def test_the_evaluation_transform_shows_the_pictures_asked_for(table):
    [batch] = take(Loader(table, ShuffledSampler(COUNT, 8), Evaluate(16, mean=MEAN, std=STD)), 1)
    for place, index in enumerate(batch.indices):
        one = take(Loader(table.select([index]), ShuffledSampler(1, 1), Evaluate(16, mean=MEAN, std=STD)), 1)[0]
        assert torch.equal(batch.pictures[place], one.pictures[0])


def test_a_picture_drawn_twice_in_a_batch_is_augmented_in_two_ways(table):
    [batch] = take(Loader(table, ClassBalancedSampler([0] + [-1] * (COUNT - 1), 1, 2), augment()), 1)
    assert batch.indices.tolist() == [0, 0]
    assert not torch.equal(batch.pictures[0], batch.pictures[1])


@pytest.fixture
def damaged(table, tmp_path):
    for n in range(COUNT):
        data = table.read(n)
        if n % 10 == 3:
            data = data[:40]
        if n != 7:
            (tmp_path / f"{n}.png").write_bytes(data)
    return PictureTable(PictureFiles(tmp_path, [f"{n}.png" for n in range(COUNT)]), {})


def test_copies_of_a_row_differ_between_ranks_too(table: PictureTable) -> None:
    """One picture four times in a step: four different changes, the same four for one rank, two and four."""
    sampler = ClassBalancedSampler([0] + [-1] * (COUNT - 1), 1, 4)
    [alone] = take(Loader(table, sampler, augment()), 1)
    assert len(torch.unique(alone.pictures.flatten(1), dim=0)) == 4
    for world_size in (2, 4):
        ranks = [
            take(Loader(table, sampler, augment(), rank=r, world_size=world_size), 1)[0] for r in range(world_size)
        ]
        assert torch.equal(torch.cat([each.pictures for each in ranks]), alone.pictures)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_pictures_are_replaced_the_same_way_counted_and_named(damaged, workers):
    sampler = ShuffledSampler(COUNT, COUNT)
    loader = Loader(damaged, sampler, augment(), workers=workers, prefetch=1)
    batches = take(loader, 2)
    assert_equal(batches, take(Loader(damaged, sampler, augment(), workers=0), 2))
    assert not set(batches[0].indices.tolist()) & {3, 7, 13, 23}
    good = ~np.isin(sampler.batch(0), [3, 7, 13, 23])
    assert (batches[0].indices[good] == sampler.batch(0)[good]).all()
    assert loader.stats.num_faults == 4
    assert {fault.name for fault in loader.stats.faults} == {"3.png", "7.png", "13.png", "23.png"}


@pytest.mark.parametrize(("row", "error"), [(3, ImageDecodeFailed), (7, ItemNotFound)])
@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_pictures_may_be_refused_by_name(damaged, row, error, workers):
    loader = Loader(damaged.select([row]), ShuffledSampler(1, 1), augment(), workers=workers, on_fault="fail")
    with pytest.raises(error, match=f"{row}.png"):
        take(loader, 1)


def test_a_table_without_a_readable_picture_is_given_up(damaged):
    with pytest.raises(ArgumentInvalid, match=r"in a row cannot be read.*3\.png"):
        take(Loader(damaged.select([3, 7]), ShuffledSampler(2, 2), augment()), 1)


def test_stats_count_what_was_delivered_and_waited_for(table):
    loader = Loader(table, ShuffledSampler(COUNT, 8), augment(), workers=0)
    take(loader, 3)
    stats = loader.stats
    assert stats.pictures == 24
    assert 0 < stats.starved_seconds <= stats.seconds
    assert 0 < stats.starvation <= 1
    assert stats.pictures_per_second > 0
    time.sleep(0.01)
    assert loader.stats == stats  # closed: the clock stands


def test_closing_stops_the_threads_and_ends_the_iteration(table):
    before = threading.active_count()
    loader = Loader(table, ShuffledSampler(COUNT, 8), augment(), workers=3)
    next(loader)
    assert threading.active_count() > before
    loader.close()
    loader.close()
    assert threading.active_count() == before
    assert list(loader) == []


def test_an_interrupt_leaves_no_thread_behind(table):
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), Loader(table, ShuffledSampler(COUNT, 8), augment(), workers=2) as loader:
        next(loader)
        raise KeyboardInterrupt
    assert threading.active_count() == before


class FailsAtStep(Evaluate):
    """A transform that breaks at one step."""

    def __call__(self, pictures, indices, step, copies=None):
        if step == 2:
            raise ValueError("broken at step 2")
        return super().__call__(pictures, indices, step, copies)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_breaks_in_a_worker_breaks_its_step_and_none_before(table, workers):
    transform = FailsAtStep(16, mean=MEAN, std=STD)
    with Loader(table, ShuffledSampler(COUNT, 8), transform, workers=workers) as loader:
        assert [next(loader).step for _ in range(2)] == [0, 1]
        for _ in range(2):  # asking again does not skip it
            with pytest.raises(ValueError, match="broken at step 2"):
                next(loader)


def test_the_threads_of_torch_stay_those_of_the_caller(table):
    before = torch.get_num_threads()
    with Loader(table, ShuffledSampler(COUNT, 8), augment(), workers=2) as loader:
        next(loader)
        assert torch.get_num_threads() == before
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [before]


INTERRUPTED = """
import sys
import numpy as np
from bowerbird.training.loader import Loader
from bowerbird.training.augment import Evaluate
from bowerbird.training.dataset import PictureFiles, PictureTable
from bowerbird.training.sampler import ShuffledSampler
from pathlib import Path

table = PictureTable(PictureFiles(Path(sys.argv[1]), [f"{n}.png" for n in range(30)]), {})
loader = Loader(table, ShuffledSampler(30, 8), Evaluate(16, mean=(0,) * 3, std=(1,) * 3), workers=2)
for batch in loader:  # never closed: the program just ends
    if batch.step == 3:
        print("running", flush=True)
"""


def test_a_program_that_is_interrupted_ends_at_once(table):
    root = table._pictures.root
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout.readline() == "running\n"
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == -signal.SIGINT
    assert errors.strip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": -1}, "workers >= 0"),
        ({"prefetch": 0}, "prefetch >= 1"),
        ({"rank": 2, "world_size": 2}, "rank"),
        ({"world_size": 3}, "divisor"),
        ({"start_step": -1}, "step"),
    ],
)
def test_wrong_options_are_refused_at_once(table, options, words):
    with pytest.raises(ArgumentInvalid, match=words):
        Loader(table, ShuffledSampler(COUNT, 8), augment(), **options)
    with pytest.raises(ArgumentInvalid, match="expected pictures"):
        Loader(table.select([]), ShuffledSampler(COUNT, 8), augment())
