"""The CUDA emulator: right kernels give what CUDA promises, wrong ones are found. The kernels stand in cases.cu."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

ROOT = Path(__file__).resolve().parents[3]
EMULATOR = ROOT / "native/cuda_emulator"
CASES = EMULATOR / "tests/cases.cu"
COMPILER = os.environ.get("CXX", "c++")
ORDERS = ["forward", "reverse", "1", "2", "3"]
GARBAGE = -3801147  # 0xFFC5FFC5
LANES = np.arange(32)
ints = npt.NDArray[np.int32]


SWITCHES = {"switch_x86_64", "switch_aarch64", "switch_ucontext"}
SWITCH = f"switch_{platform.machine()}" if f"switch_{platform.machine()}" in SWITCHES else "switch_ucontext"


def call(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def build(folder: Path, *flags: str) -> Path:
    """The program of cases.cu; its object files stay in the folder."""
    sources = [path for path in (EMULATOR / "src").glob("*.cpp") if path.stem not in SWITCHES - {SWITCH}]
    includes = [f"-I{EMULATOR}", f"-I{ROOT / 'native/cuda'}"]
    options = ["-std=c++20", "-O1", "-ffp-contract=off", "-ftrivial-auto-var-init=pattern", "-fno-strict-aliasing"]
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-Wno-unknown-pragmas"]
    for source in [CASES, *sources]:
        to = folder / f"{source.stem}.o"
        call(COMPILER, *options, *warnings, *flags, *includes, "-x", "c++", "-c", source, "-o", to)
    call(COMPILER, *flags, *sorted(folder.glob("*.o")), "-o", folder / "cases")
    return folder / "cases"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("emulator"))


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g"]
    return build(tmp_path_factory.mktemp("sanitized"), *flags)


def run(program: Path, case: str, values: npt.ArrayLike = (), order: str = "") -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"BOWERBIRD_EMULATOR_ORDER": order}
    given = np.asarray(values).tobytes() if np.size(values) else b""
    return subprocess.run([program, case], input=given, env=environment, capture_output=True, timeout=60, check=False)


def output(program: Path, case: str, values: npt.ArrayLike = (), order: str = "") -> ints:
    done = run(program, case, values, order)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.int32)


def fault(program: Path, case: str, values: npt.ArrayLike = (), order: str = "") -> str:
    done = run(program, case, values, order)
    assert done.returncode != 0
    return done.stderr.decode()


def randints(seed: int, count: int, low: int = 0, high: int = 100) -> ints:
    return np.random.default_rng(seed).integers(low, high, count, dtype=np.int32)


@pytest.fixture(params=ORDERS)
def order(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- right kernels ----


def test_shuffles(program: Path, order: str) -> None:
    """Source lanes, deltas and widths pick what the programming guide says, for 32 and 64 bits and floats."""
    values = randints(1, 32)
    up, down, xor = LANES - 3, LANES + 5, LANES ^ 9
    expected = [
        values[((LANES * 7 + 3) % 64 - 16) & 31],
        values[(LANES & ~7) + 5],
        values[np.where(LANES % 16 < 3, LANES, up)],
        values[np.where(down > 31, LANES, down)],
        values[np.where(xor > (LANES | 7), LANES, xor)],
        values[LANES ^ 31],
        np.minimum(LANES + 1, 31),
    ]
    np.testing.assert_array_equal(output(program, "shuffles", values, order), np.concatenate(expected))


def test_votes_matches_and_reductions(program: Path, order: str) -> None:
    values = randints(2, 32, 0, 64)
    values[7] = -1
    lane_bits = np.uint32(1) << LANES.astype(np.uint32)

    def mask(chosen: npt.NDArray[np.bool_]) -> np.int32:
        return np.bitwise_or.reduce(lane_bits[chosen], initial=np.uint32(0)).view(np.int32)

    same = bool((values & ~7 == values[0] & ~7).all())
    ored = np.bitwise_or.reduce(1 << (values & 15))
    expected = [
        np.full(32, mask(values & 1 == 1)),
        np.full(32, 2),
        [mask(values & 3 == value & 3) for value in values],
        np.full(32, values.sum()),
        np.full(32, values.min() - 100 + values.max()),
        np.full(32, ored ^ np.bitwise_and.reduce(values | 1)),
        np.full(32, -1 + 1 if same else 0),
    ]
    np.testing.assert_array_equal(output(program, "votes", values, order), np.concatenate(expected))


def test_parts_of_a_warp_go_their_own_ways(program: Path, order: str) -> None:
    """Two masks at once, different operations, and a ballot without the lanes that have returned."""
    values = randints(3, 32)
    expected = np.where(LANES < 16, values[:16].sum(), values[16:].max())
    np.testing.assert_array_equal(
        output(program, "divergent", values, order), expected + np.where(LANES % 3 == 0, 0, 21000)
    )


@pytest.mark.parametrize("threads", [1, 31, 33, 96, 128])
def test_barriers(program: Path, order: str, threads: int) -> None:
    """A prefix sum over a block, of whole warps or not, and the votes of a barrier."""
    values = randints(4, threads, 0, 10)
    vote = int((values > 3).sum()) * 4 + int((values > 99).any()) * 2 + int((values > 0).all())
    expected = np.concatenate([np.cumsum(values), np.full(threads, vote)])
    np.testing.assert_array_equal(output(program, "barriers", values, order), expected)


def test_a_pipeline_of_copies(program: Path, order: str) -> None:
    values = randints(5, 6 * 64 * 4)
    expected = values.reshape(6, 64, 4)[:, ::-1].ravel()
    np.testing.assert_array_equal(output(program, "pipeline", values, order), expected)


def test_atomics(program: Path, order: str) -> None:
    """Results that do not depend on the order of threads and blocks, and the last block that finishes."""
    values = randints(6, 15 * 96, 0, 1000)
    got = output(program, "atomics", values, order)
    expected = [
        -1,
        values.max(),
        0,
        np.bitwise_or.reduce(np.uint32(1) << (values & 31).astype(np.uint32)).view(np.int32),
    ]
    np.testing.assert_array_equal(got[:8], [*expected, 0, values.size % 7, 0, values.sum()])


def test_bits(program: Path) -> None:
    pairs = np.random.default_rng(7).integers(-(2**31), 2**31, (64, 2)).astype(np.int32)
    pairs[0], pairs[1] = (0, -1), (-(2**31), 1)

    def signed(value: int) -> int:
        return (value + 2**31) % 2**32 - 2**31

    def expected(a: int, b: int) -> list[int]:
        ua, ub = a % 2**32, b % 2**32
        first = (ua & -ua).bit_length()
        both = np.array([a, b], np.int32).tobytes()
        sign = 0xFF if both[6] > 127 else 0
        permuted = int.from_bytes([both[0], both[1], sign, both[5]], "little")
        bytes_a, bytes_b = np.array([a, b], np.int32).view(np.int8).reshape(2, 4).astype(int)
        unsigned_a, unsigned_b = np.array([a, b], np.int32).view(np.uint8).reshape(2, 4).astype(int)
        rounded = min(max(round(float(np.float32(np.float32(a) * np.float32(1.5)))), -(2**31)), 2**31 - 1)
        return [
            ua.bit_count() * 100 + 32 - ua.bit_length(),
            first * 100 + (first + 20 if first else 0),
            signed(int(f"{ua:032b}"[::-1], 2)),
            signed(permuted),
            signed(int(bytes_a @ bytes_b) + 7),
            signed(int(unsigned_a @ unsigned_b) + 7),
            signed(ua * ub >> 32),
            signed((ua << 31) * (ub << 30) >> 64),
            signed(((ub << 32 | ua) << 11) >> 32),
            signed(rounded + min(a, 5) - max(ua, 5) + 0x3F800000),
        ]

    rows = [expected(int(a), int(b)) for a, b in pairs]
    np.testing.assert_array_equal(output(program, "bits", pairs).reshape(-1, 10), rows)


def test_every_half_and_bfloat16_has_its_value(program: Path) -> None:
    patterns = np.arange(65536, dtype=np.uint16)
    got = output(program, "halves_to_floats", patterns).view(np.float32).reshape(-1, 2)
    np.testing.assert_array_equal(got[:, 0], patterns.view(np.float16).astype(np.float32))
    np.testing.assert_array_equal(got[:, 1], (patterns.astype(np.uint32) << 16).view(np.float32))


def test_floats_round_to_nearest_even(program: Path) -> None:
    """Random bit patterns, and all halves with their midpoints: NumPy's rounding for half, integer's for bfloat16."""
    halves = np.arange(31744, dtype=np.uint16).view(np.float16).astype(np.float32)
    random = np.random.default_rng(8).integers(0, 2**32, 40960, dtype=np.uint64).astype(np.uint32)
    random[random & 0x7F800000 == 0x7F800000] = 0x7F800000
    edges = np.array([65520, 65519.996, np.inf, -np.inf, -0.0], np.float32)
    values = np.concatenate([halves, (halves[1:] + halves[:-1]) / 2, -halves, random.view(np.float32), edges])
    values = np.resize(values, values.size // 256 * 256 + 256)
    got = output(program, "floats_to_halves", values).view(np.uint16).reshape(-1, 2)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_array_equal(got[:, 0], values.astype(np.float16).view(np.uint16))
    bits = values.view(np.uint32).astype(np.uint64)
    np.testing.assert_array_equal(got[:, 1], (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def test_half_arithmetic_rounds_once(program: Path) -> None:
    """Sum, product and fused product-sum of pairs, against exact arithmetic rounded once."""
    rng = np.random.default_rng(9)
    values = rng.integers(0, 65536, (64 * 16, 3, 2)).astype(np.uint16).view(np.float16)
    values[~np.isfinite(values)] = 1
    got = output(program, "half_arithmetic", values).view(np.float16).reshape(-1, 4, 2)[: len(values)]
    a, b, c = (values[:, i].astype(np.longdouble) for i in range(3))  # 64 bits of mantissa hold all but far-off sums
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for i, exact in enumerate((a + b, a * b, a * b + c, a - b)):
            np.testing.assert_array_equal(got[:, i], exact.astype(np.float64).astype(np.float16))


# ---- wrong kernels ----


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("divergent_barrier", "divergent barrier: this thread is at __syncthreads"),
        ("half_a_shuffle", "threads 0 to 30: __shfl_sync with mask 0xffffffff, cases.cu:"),
        ("half_a_shuffle", "threads 31 to 63: __syncthreads, cases.cu:"),
        ("mask_without_caller", "thread (16, 0, 0), cases.cu:"),
        ("misaligned_load", "misaligned address"),
        ("false_assumption", "thread (40, 0, 0), cases.cu:"),
    ],
)
def test_a_fault_is_named(program: Path, case: str, expected: str) -> None:
    """The message says which block, who waits where, and the line."""
    message = fault(program, case, np.arange(64, dtype=np.int32))
    assert message.startswith("CUDA emulator: block (0, 0, 0)")
    assert expected in message


def test_a_trap_ends_the_launch(program: Path) -> None:
    assert "thread (3, 0, 0)" in fault(program, "trap")


def test_an_endless_spin_is_ended(program: Path) -> None:
    assert "threads spin and none comes on\n  threads 0 to 0: running" in fault(program, "spin")


def test_a_lane_that_takes_no_part_gives_garbage(program: Path) -> None:
    got = output(program, "absent_source", np.arange(32, dtype=np.int32))
    np.testing.assert_array_equal(got, [GARBAGE] * 16 + [0] * 16)


def test_a_missing_barrier_shows_in_some_order(program: Path) -> None:
    """One order of the threads may hide it, the orders together do not."""
    values = np.arange(64, dtype=np.int32)
    results = {order: output(program, "missing_barrier", values, order) for order in ORDERS}
    assert any((result != values[::-1]).any() for result in results.values())
    assert len({result.tobytes() for result in results.values()}) > 1


def test_shared_memory_starts_as_garbage_in_each_block(program: Path) -> None:
    np.testing.assert_array_equal(output(program, "unset_shared"), np.full(64, GARBAGE))


def test_a_copy_arrives_at_the_wait_only(program: Path) -> None:
    np.testing.assert_array_equal(output(program, "missing_wait", randints(10, 64)), np.full(64, GARBAGE))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("block_of_1025", "invalid configuration argument"),
        ("block_of_none", "invalid configuration argument"),
        ("grid_of_65536_rows", "invalid configuration argument"),
        ("shared_49_KiB", "invalid argument"),
        ("shared_164_KiB_allowed", "invalid argument"),
    ],
)
def test_the_limits_of_the_device_hold(program: Path, case: str, expected: str) -> None:
    message = fault(program, case)
    assert message.startswith("CUDA: ")
    assert message.endswith(f"failed: {expected}\n")


def test_a_launch_leaves_the_variables_of_the_host_alone(program: Path) -> None:
    """Shared memory is what is thread-local during a launch; afterwards the host's own is as it was."""
    assert output(program, "shared_163_KiB_allowed")[0] == 41


def test_writing_behind_dynamic_shared_memory_is_found(program: Path) -> None:
    assert "wrote behind the dynamic shared memory" in fault(program, "dynamic_overflow")


@pytest.mark.parametrize("wanted", ["backward", "1x", "-1"])
def test_an_unknown_order_is_refused(program: Path, wanted: str) -> None:
    message = fault(program, "trap", order=wanted)
    assert message == f"BOWERBIRD_EMULATOR_ORDER: expected forward, reverse or a seed, got '{wanted}'\n"


# ---- under AddressSanitizer, with another way to change stacks, by the real compiler ----


@pytest.mark.parametrize("case", ["global_overflow", "static_overflow", "local_overflow", "dynamic_overflow"])
def test_addresssanitizer_sees_all_memory(sanitized: Path, case: str) -> None:
    """Memory of the device, of the block and of the thread has bounds."""
    values = () if case == "dynamic_overflow" else np.arange(32, 64, dtype=np.int32)
    message = fault(sanitized, case, values)
    assert "ERROR: AddressSanitizer" in message or "runtime error: index" in message
    assert "/cases" in message  # the source line, or the program where no symboliser is installed


@pytest.mark.parametrize("case", ["shuffles", "barriers", "atomics"])
def test_right_kernels_are_clean(sanitized: Path, program: Path, case: str) -> None:
    values = randints(11, 15 * 96 if case == "atomics" else 32)
    np.testing.assert_array_equal(output(sanitized, case, values), output(program, case, values))


def test_the_portable_change_of_stacks(program: Path, tmp_path: Path) -> None:
    """Processors without a hand-written switch use the C library's."""
    objects = [path for path in program.parent.glob("*.o") if path.stem != SWITCH]
    source = EMULATOR / "src/switch_ucontext.cpp"
    call(COMPILER, "-std=c++20", "-O1", f"-I{EMULATOR}", source, *objects, "-o", tmp_path / "cases")
    values = randints(12, 96)
    np.testing.assert_array_equal(output(tmp_path / "cases", "barriers", values)[:96], np.cumsum(values))
    assert "no thread can go on" in fault(tmp_path / "cases", "half_a_shuffle", np.arange(64, dtype=np.int32))


@pytest.fixture(scope="module")
def compiled_by_nvcc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on PATH")
    program = tmp_path_factory.mktemp("nvcc") / "cases"
    targets = ["-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90,code=[sm_90,compute_90]"]
    includes = f"-I{ROOT / 'native/cuda'}"
    call("nvcc", "-std=c++20", "--fmad=false", *targets, includes, CASES, "-o", program)
    return program


def test_nvcc_takes_the_same_kernels(compiled_by_nvcc: Path) -> None:
    """What the emulator runs is CUDA; without a device the program says so."""
    done = run(compiled_by_nvcc, "shuffles", randints(1, 32))
    assert done.returncode == 0 or b"CUDA: cudaMallocManaged failed" in done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("case", "values"),
    [
        ("shuffles", randints(21, 32)),
        ("votes", randints(22, 32)),
        ("divergent", randints(23, 32)),
        ("barriers", randints(24, 96)),
        ("pipeline", randints(25, 6 * 64 * 4)),
        ("atomics", randints(26, 15 * 96)),
        ("bits", randints(27, 128, -(2**31), 2**31 - 1)),
        ("floats_to_halves", np.random.default_rng(28).normal(size=1024).astype(np.float32)),
        ("half_arithmetic", np.random.default_rng(29).normal(size=64 * 6).astype(np.float16)),
    ],
)
def test_a_device_gives_what_the_emulator_gives(
    program: Path, compiled_by_nvcc: Path, case: str, values: npt.NDArray[np.generic]
) -> None:
    """Where there is a GPU, it is the judge of the emulator."""
    done = run(compiled_by_nvcc, case, values)
    if b"CUDA: cudaMallocManaged failed" in done.stderr:
        pytest.skip(done.stderr.decode().strip())
    assert done.returncode == 0, done.stderr.decode()
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.int32), output(program, case, values))
