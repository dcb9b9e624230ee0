"""The CUDA kernels, run on the CPU from their own source, give what the oracle gives."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import projection_oracle as oracle
import pytest
import torch
from emulation.emulated_gpu import EmulatedGpu, compile_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.projection.definition import stream_key, tensor_key
from trak_cli.projection.gpu import launch as gpu
from trak_cli.projection.gpu.launch import Shape, add_product
from trak_cli.projection.gpu.nvrtc_source import ENTRY_POINTS, source
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed: kernels cannot be emulated")

CHECKPOINT = "5a" * 32
PIECES = ("try_mma", "try_half", "try_race", "try_deadlock")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
Libraries = Mapping[str, ctypes.CDLL]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    folder = tmp_path_factory.mktemp("emulated")
    return {
        file: compile_kernels(source(file), kernels, folder / f"{Path(file).stem}.so") for file, kernels in ENTRY_POINTS.items()
    }


@pytest.fixture(scope="module", params=[True, False], ids=["emulated-mma", "portable-mma"])
def pieces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EmulatedGpu:
    text = source("warp_mma.cuh") + (Path(__file__).parent / "emulation/pieces.cu").read_text()
    library = tmp_path_factory.mktemp("pieces") / "pieces.so"
    return EmulatedGpu({"pieces": compile_kernels(text, PIECES, library, fast_mma=request.param)})


def run(emulated: EmulatedGpu, spec: ProjectionSpec, block: Block) -> torch.Tensor:
    """G P, added to a matrix that is not zero and taken off again."""
    out = emulated.empty(len(block.gradient) * spec.dim, torch.float32).view(-1, spec.dim)
    out.zero_()
    stream = stream_key(tensor_key(spec.seed, CHECKPOINT, block.name), spec.kind)
    add_product(emulated, spec, stream, block, out)
    emulated.check()
    return out


def expected(spec: ProjectionSpec, block: Block) -> torch.Tensor:
    return torch.from_numpy(oracle.project(spec, CHECKPOINT, [block]))


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest error of a row, relative to the row's size."""
    size = exact.norm(dim=1).clamp_min(1e-300)
    return float(((found.double() - exact).norm(dim=1) / size).max())


def whole_numbers(rows: int, width: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Entries of which every dtype, every product and every sum is exact; NaN all around them in memory."""
    memory = torch.full((rows + 2, width + 9), torch.nan, dtype=dtype)
    memory[1:-1, 4:-5] = torch.randint(-8, 9, (rows, width), generator=torch.Generator().manual_seed(seed)).to(dtype)
    return memory[1:-1, 4:-5]


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    kind=st.sampled_from(["rademacher", "gaussian"]),
    rows=st.integers(1, 70),
    width=st.integers(1, 400),
    dim=st.integers(1, 300),
    offset=st.integers(0, 40) | st.integers(2**32 - 200, 2**40),
    dtype=st.sampled_from(DTYPES),
)
def test_dense_products_of_whole_numbers_are_exact(
    libraries: Libraries, kind: str, rows: int, width: int, dim: int, offset: int, dtype: torch.dtype
) -> None:
    spec, block = ProjectionSpec(kind, dim, seed=3), Block("w", whole_numbers(rows, width, dtype), offset)
    assert torch.equal(run(EmulatedGpu(libraries), spec, block).double(), expected(spec, block))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    rows=st.integers(1, 70),
    width=st.integers(1, 1200),
    nonzeros=st.sampled_from([1, 2, 3, 8]),
    ranges=st.integers(1, 5) | st.integers(gpu.MANY_BUCKETS, 70),
    offset=st.integers(0, 40) | st.integers(2**32 - 200, 2**40),
    dtype=st.sampled_from(DTYPES),
)
def test_sparse_products_agree_with_the_oracle(
    libraries: Libraries, rows: int, width: int, nonzeros: int, ranges: int, offset: int, dtype: torch.dtype
) -> None:
    spec = ProjectionSpec("sjlt", 16 * nonzeros * ranges, seed=3, nonzeros=nonzeros)
    block = Block("w", whole_numbers(rows, width, dtype), offset)
    # Sums are exact, so only the factor sqrt(k / s) rounds.
    torch.testing.assert_close(run(EmulatedGpu(libraries), spec, block).double(), expected(spec, block), rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian", "sjlt"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_real_gradients_keep_three_digits(libraries: Libraries, kind: str, dtype: torch.dtype) -> None:
    spec = ProjectionSpec(kind, 64, nonzeros=2)
    block = Block("w", torch.randn(5, 3001, generator=torch.Generator().manual_seed(1)).to(dtype), 7)
    # Only a float32 gradient of a dense kind is rounded, to float16.
    bound = 5e-4 if kind != "sjlt" and dtype == torch.float32 else 1e-6
    assert error(run(EmulatedGpu(libraries), spec, block), expected(spec, block)) < bound


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_rows_of_every_size_keep_three_digits(libraries: Libraries, kind: str) -> None:
    sizes = torch.tensor([[1e-36], [1e-20], [1e-3], [1.0], [1e9], [1e33], [0.0]])
    block = Block("w", torch.randn(7, 500, generator=torch.Generator().manual_seed(2)) * sizes)
    spec = ProjectionSpec(kind, 40)
    assert error(run(EmulatedGpu(libraries), spec, block), expected(spec, block)) < 5e-4


@pytest.mark.parametrize("kind", ["rademacher", "gaussian", "sjlt"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_stays_visible_and_in_its_row(libraries: Libraries, kind: str, bad: float) -> None:
    gradient = whole_numbers(3, 200)
    gradient[1, 70] = bad
    found = run(EmulatedGpu(libraries), ProjectionSpec(kind, 32), Block("w", gradient))
    assert not found[1].isfinite().all()
    assert found[[0, 2]].isfinite().all()


@pytest.mark.parametrize("kind", ["rademacher", "gaussian", "sjlt"])
@pytest.mark.parametrize("width", [4097, 9000])
def test_split_sums_are_those_of_one_piece(
    libraries: Libraries, monkeypatch: pytest.MonkeyPatch, kind: str, width: int
) -> None:
    """A gradient is cut into chunks, chunks into splits."""
    monkeypatch.setattr(gpu, "CHUNK", 4096)
    spec, block = ProjectionSpec(kind, 256), Block("w", whole_numbers(2, width), 2**33 + 5)
    emulated = EmulatedGpu(libraries)
    assert torch.equal(run(emulated, spec, block).double(), expected(spec, block))
    assert "reduce" in [kernel for kernel, _ in emulated.launched]


def test_long_sums_leave_the_tensor_cores_now_and_then(libraries: Libraries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DENSE_BLOCKS", 1)
    spec, block = ProjectionSpec("rademacher", 3), Block("w", whole_numbers(2, 2 * 128 * 128 + 200))
    emulated = EmulatedGpu(libraries)
    assert torch.equal(run(emulated, spec, block).double(), expected(spec, block))
    assert "reduce" not in [kernel for kernel, _ in emulated.launched]


def test_a_sparse_tile_that_is_too_wide_takes_several_passes(libraries: Libraries) -> None:
    spec, block = ProjectionSpec("sjlt", 400, nonzeros=1), Block("w", whole_numbers(3, 700))
    emulated = EmulatedGpu(libraries, shared_limit=1024)
    torch.testing.assert_close(run(emulated, spec, block).double(), expected(spec, block), rtol=2e-7, atol=1e-9)
    assert emulated.launched[0][1].grid[1] == 3


@pytest.mark.parametrize("kind", ["rademacher", "gaussian", "sjlt"])
def test_no_result_depends_on_the_order_of_threads(libraries: Libraries, kind: str) -> None:
    spec = ProjectionSpec(kind, 64, nonzeros=2)
    block = Block("w", torch.randn(9, 4500, generator=torch.Generator().manual_seed(3)), 11)
    first, *others = (run(EmulatedGpu(libraries, turn=turn), spec, block) for turn in (0, 1, 17, 18))
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("kind", ["rademacher", "sjlt"])
def test_products_are_added_to_what_is_there(libraries: Libraries, kind: str) -> None:
    spec, block = ProjectionSpec(kind, 16), Block("w", whole_numbers(2, 5000))
    out = torch.full((2, 16), 1000.0)
    for _ in range(2):
        add_product(EmulatedGpu(libraries), spec, stream_key(tensor_key(0, CHECKPOINT, "w"), kind), block, out)
    assert torch.equal(out.double(), 1000 + 2 * expected(spec, block))


@pytest.mark.parametrize("kind", ["rademacher", "sjlt"])
def test_rows_more_than_two_to_the_32_entries_apart(libraries: Libraries, kind: str, tmp_path: Path) -> None:
    stride, width = 2**31 + 3, 300
    memory = torch.from_file(str(tmp_path / "holes"), shared=True, size=2 * stride + width, dtype=torch.float16)
    gradient = memory.as_strided((3, width), (stride, 1))
    gradient.copy_(whole_numbers(3, width))
    spec, block = ProjectionSpec(kind, 16), Block("w", gradient)
    assert torch.equal(run(EmulatedGpu(libraries), spec, block).double(), expected(spec, block))


@pytest.mark.parametrize("kind", ["rademacher", "sjlt"])
def test_other_dtypes_and_layouts_are_taken_too(libraries: Libraries, kind: str) -> None:
    spec = ProjectionSpec(kind, 64)
    for gradient in (whole_numbers(4, 90).double(), whole_numbers(90, 4).T):
        block = Block("w", gradient)
        assert torch.equal(run(EmulatedGpu(libraries), spec, block).double(), expected(spec, block))


def test_one_warp_product_is_the_matrix_product(pieces: EmulatedGpu) -> None:
    random = np.random.default_rng(0)
    A, B = (random.integers(-9, 10, shape).astype(np.float16) for shape in ((16, 16), (16, 8)))
    C = random.integers(-9, 10, (16, 8)).astype(np.float32)
    lane = np.arange(32)
    g, q = lane // 4, lane % 4
    two = 2 * q[:, None] + np.arange(2)
    a = np.stack([A[g[:, None], two], A[g[:, None] + 8, two], A[g[:, None], two + 8], A[g[:, None] + 8, two + 8]], axis=1)
    b = np.stack([B[two, g[:, None]], B[two + 8, g[:, None]]], axis=1)
    sums = np.concatenate([C[g[:, None], two], C[g[:, None] + 8, two]], axis=1)
    found = torch.from_numpy(sums.copy())
    factors = (torch.from_numpy(np.ascontiguousarray(x).view(np.int16)) for x in (a, b))
    pieces.launch("pieces", "try_mma", Shape((1, 1), 32), *factors, found)
    D = C + A.astype(np.float32) @ B.astype(np.float32)
    assert np.array_equal(found.numpy(), np.concatenate([D[g[:, None], two], D[g[:, None] + 8, two]], axis=1))


def test_portable_float16_rounds_like_numpy(pieces: EmulatedGpu) -> None:
    every_half = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = np.unique(every_half[np.isfinite(every_half)])
    halfway = (finite[1:] + finite[:-1]) / 2
    random = np.random.default_rng(0).integers(0, 2**32, 10_000, dtype=np.uint32).view(np.float32)
    limits = np.array([65519.99, 65520, 1e38, 1e-45, 2**-25, -(2**-25)], dtype=np.float32)
    x = np.concatenate([every_half, halfway, np.nextafter(halfway, np.float32(0)), random, limits])
    rounded, back = torch.empty(len(x), dtype=torch.int16), torch.empty(len(x))
    pieces.launch("pieces", "try_half", Shape((1, 1), 32), torch.from_numpy(x), rounded, back, np.int32(len(x)))
    with np.errstate(over="ignore"):
        halves = x.astype(np.float16)
    assert np.array_equal(rounded.numpy().view(np.float16), halves, equal_nan=True)
    assert np.array_equal(back.numpy(), halves.astype(np.float32), equal_nan=True)


def test_the_emulation_notices_a_missing_barrier_and_a_deadlock(pieces: EmulatedGpu) -> None:
    def given_on(turn: int, wait: int) -> list[float]:
        out = torch.zeros(64)
        pieces._turn = turn
        pieces.launch("pieces", "try_race", Shape((1, 1), 64), out, np.int32(wait))
        return out.nan_to_num(-1).tolist()

    assert given_on(0, wait=1) == given_on(1, wait=1) == [*range(1, 64), 0]
    assert given_on(0, wait=0) != given_on(1, wait=0)
    with pytest.raises(RuntimeError, match="wait for each other"):
        pieces.launch("pieces", "try_deadlock", Shape((1, 1), 32), torch.zeros(32))
