"""The compiled CPU kernels, for every instruction set of this processor: the oracle's values, and bits that never change."""

from __future__ import annotations

import _ctypes
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import projection_oracle as oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.errors import ConfigError
from trak_cli.projection.contract import Projector
from trak_cli.projection.cpu import ctypes_binding as library
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block, RowBlock

CHECKPOINT = "5a" * 32
SIZES = {"w": 200_000, "b": 37, "huge": 2**40}
CPU = torch.device("cpu")
NAMES = ("c-avx512", "c-avx2", "c-portable")
every_variant = pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=pytest.mark.skipif(why is not None, reason=f"{name}: {why}"))
        for name, why in ((name, library.missing(name)) for name in NAMES)
    ],
)
SPECS = [
    ProjectionSpec("rademacher", 300, 3),
    ProjectionSpec("rademacher", 4100, 3),  # wider than one job
    ProjectionSpec("gaussian", 261, 3),
    ProjectionSpec("sjlt", 320, 3, nonzeros=1),
    ProjectionSpec("sjlt", 192, 3, nonzeros=3),
    ProjectionSpec("sjlt", 128, 3, nonzeros=8),
]
every_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.dim}-{spec.nonzeros}")


def projector(spec: ProjectionSpec, variant: str, threads: int = 1) -> Projector:
    return make_projector(spec, CHECKPOINT, SIZES, device=CPU, kernel=variant, threads=threads)


def gradients(batch: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed))


def cut(block: Block, marks: list[int]) -> list[Block]:
    """The same block in parts that begin at the coordinates ``marks`` of the parameter."""
    start, end = block.offset, block.offset + block.gradient.shape[1]
    edges = sorted({start, end, *(mark for mark in marks if start < mark < end)})
    return [Block(block.name, block.gradient[:, a - start : b - start], a) for a, b in pairwise(edges)]


def assert_close(found: torch.Tensor, spec: ProjectionSpec, blocks: list[Block], tolerance: float = 5e-6) -> None:
    """The oracle's values, to ``tolerance`` times the norm of a sample's gradient, the typical size of a feature."""
    expected = torch.from_numpy(oracle.project(spec, CHECKPOINT, blocks))
    norm = sum(block.gradient.double().square().sum(dim=1) for block in blocks) ** 0.5
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert torch.all((found.double() - expected).abs() <= tolerance * norm[:, None])


@every_variant
@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(["rademacher", "gaussian", "sjlt"]),
    columns=st.integers(1, 300),
    nonzeros=st.sampled_from([1, 2, 3, 4, 8]),
    batch=st.integers(1, 40),
    width=st.integers(1, 2500),
    offset=st.one_of(st.integers(0, 5000), st.integers(2**31, 2**39)),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
)
def test_the_oracles_values(
    variant: str, kind: str, columns: int, nonzeros: int, batch: int, width: int, offset: int, dtype: torch.dtype
) -> None:
    unit = 16 * nonzeros
    spec = ProjectionSpec(kind, -(-columns // unit) * unit if kind == "sjlt" else columns, 11, nonzeros)
    blocks = [Block("huge", gradients(batch, width).to(dtype), offset), Block("b", gradients(batch, 37, 1).to(dtype))]
    assert_close(projector(spec, variant, 2).project(blocks), spec, blocks)


@every_variant
@every_spec
def test_a_unit_vector_reads_out_a_row_of_the_matrix_exactly(variant: str, spec: ProjectionSpec) -> None:
    rows = [0, 1, 15, 16, 31, 32, 1023, 1024, 4099]
    unit = torch.zeros(len(rows), 4100)
    unit[range(len(rows)), rows] = 1
    found = projector(spec, variant).project([Block("w", unit)])
    np.testing.assert_array_equal(found.numpy(), oracle.matrix(spec, CHECKPOINT, "w", rows).astype(np.float32))


def reached(batch: int, rows: int, width: int, seed: int) -> RowBlock:
    """A few rows for every sample but the first."""
    chosen = torch.rand(batch, rows, generator=torch.Generator().manual_seed(seed)) < 0.2
    chosen[0] = False
    sample, row = chosen.nonzero().T
    return RowBlock("w", batch, sample, row, gradients(len(row), width, seed))


@every_variant
@every_spec
@pytest.mark.parametrize(("batch", "rows", "width"), [(1, 40, 7), (5, 600, 33), (17, 90, 300)])
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_of_an_embedding_are_projected_as_if_they_were_written_out(
    variant: str, spec: ProjectionSpec, batch: int, rows: int, width: int, threads: int
) -> None:
    blocks = [reached(batch, rows, width, 5), Block("b", gradients(batch, 37)), reached(batch, rows, width, 6)]
    found = projector(spec, variant, threads).project(blocks)
    expected = torch.from_numpy(oracle.project(spec, CHECKPOINT, blocks))
    norm = expected.norm(dim=1, keepdim=True).clamp(min=1)
    assert torch.all((found.double() - expected).abs() <= 3e-6 * norm)
    assert torch.equal(found, projector(spec, variant, 1).project(blocks))
    plain = make_projector(spec, CHECKPOINT, SIZES, device=CPU, kernel="blas").project(blocks)
    assert torch.all((plain.double() - expected).abs() <= 3e-6 * norm)


@every_variant
@pytest.mark.parametrize(("buckets", "nonzeros"), [(1, 2), (2, 1), (64, 3), (71, 2), (65_535, 1), (65_536, 1), (65_537, 1)])
def test_every_way_to_find_a_bucket_gives_the_oracles(variant: str, buckets: int, nonzeros: int) -> None:
    """One, a power of two, or any number of them, below and above what 16 bits hold."""
    spec = ProjectionSpec("sjlt", 16 * nonzeros * buckets, 3, nonzeros)
    blocks = [Block("w", gradients(2, 700), 5)]
    found, expected = projector(spec, variant).project(blocks), torch.from_numpy(oracle.project(spec, CHECKPOINT, blocks))
    assert torch.allclose(found.double(), expected, rtol=1e-6, atol=1e-5)


@every_variant
@every_spec
@pytest.mark.parametrize("batch", [1, 21, 70])
def test_threads_do_not_change_a_bit(variant: str, spec: ProjectionSpec, batch: int) -> None:
    blocks = [Block("w", gradients(batch, 2600), 77), Block("b", gradients(batch, 37, 1))]
    one, *more = [projector(spec, variant, threads).project(blocks) for threads in (1, 2, 5)]
    assert all(torch.equal(one, other) for other in more)


@every_variant
@every_spec
def test_a_sample_does_not_feel_its_batch_in_a_single_bit(variant: str, spec: ProjectionSpec) -> None:
    G = gradients(71, 2600)
    together = projector(spec, variant).project([Block("w", G, 50)])
    for a, b in pairwise([0, 1, 3, 6, 10, 15, 23, 40, 71]):
        assert torch.equal(projector(spec, variant).project([Block("w", G[a:b], 50)]), together[a:b])


@every_variant
@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_fewer_dense_columns_are_a_prefix_of_more_to_the_bit(variant: str, kind: str) -> None:
    block = Block("w", gradients(9, 2600))
    many = projector(ProjectionSpec(kind, 4200), variant).project([block])
    for dim in (1, 17, 64, 4097):
        assert torch.equal(projector(ProjectionSpec(kind, dim), variant).project([block]), many[:, :dim])


@every_variant
@settings(deadline=None, max_examples=20)
@given(spec=st.sampled_from(SPECS), marks=st.lists(st.integers(0, 130), max_size=6), unit=st.sampled_from([1, 32]))
def test_cutting_a_tensor_into_blocks(variant: str, spec: ProjectionSpec, marks: list[int], unit: int) -> None:
    blocks = [Block("w", gradients(5, 2000), 333), Block("b", gradients(5, 37, 1))]
    parts = [part for block in blocks for part in cut(block, [unit * mark for mark in marks])]
    found, whole = projector(spec, variant).project(parts), projector(spec, variant).project(blocks)
    if unit == 32 or spec.kind == "sjlt":
        assert torch.equal(found, whole)
    assert_close(found, spec, blocks)


@every_variant
@pytest.mark.parametrize(("kind", "dim", "nonzeros"), [("rademacher", 33, 1), ("gaussian", 17, 1), ("sjlt", 32, 2)])
def test_long_tensors_keep_their_precision(variant: str, kind: str, dim: int, nonzeros: int) -> None:
    spec = ProjectionSpec(kind, dim, 3, nonzeros)
    blocks = [Block("w", gradients(2, 140_000).double() + 1, 3001)]  # several segments and several conversions
    assert_close(projector(spec, variant).project(blocks), spec, blocks)
    single = [Block("w", blocks[0].gradient.float(), 3001)]
    assert torch.equal(projector(spec, variant).project(single), projector(spec, variant, 2).project(blocks))


@every_variant
@every_spec
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("batch", [3, 20])
def test_a_gradient_that_is_not_finite_shows_in_its_own_row_only(
    variant: str, spec: ProjectionSpec, bad: float, batch: int
) -> None:
    G = gradients(batch, 2600)
    G[1, 2345] = bad
    found = projector(spec, variant).project([Block("w", G)])
    touched = oracle.matrix(spec, CHECKPOINT, "w", [2345])[0] != 0
    assert torch.equal(found[1].isfinite(), ~torch.from_numpy(touched))
    assert torch.isfinite(found[[r for r in range(batch) if r != 1]]).all()


@every_variant
@every_spec
def test_where_a_gradient_lies_in_memory_does_not_change_a_bit(variant: str, spec: ProjectionSpec) -> None:
    G = gradients(3, 2600)
    expected = projector(spec, variant).project([Block("w", G)])
    transposed = G.T.contiguous().T
    unaligned = torch.empty(3 * 2601 + 1)[1:].reshape(3, 2601)[:, 1:].copy_(G)
    for view in (transposed, unaligned, G.double()):
        assert torch.equal(projector(spec, variant).project([Block("w", view)]), expected)


@every_variant
@every_spec
def test_a_projector_begins_anew_with_every_batch(variant: str, spec: ProjectionSpec) -> None:
    project = projector(spec, variant, 2).project
    first, other = [Block("w", gradients(3, 900))], [Block("w", gradients(5, 900, 1))]
    before = project(first)
    project(other)
    assert torch.equal(project(first), before)


@every_variant
@every_spec
def test_an_empty_batch_or_block_gives_no_surprise(variant: str, spec: ProjectionSpec) -> None:
    assert projector(spec, variant).project([Block("w", gradients(0, 10))]).shape == (0, spec.dim)
    assert not projector(spec, variant).project([Block("w", gradients(2, 0))]).any()
    with pytest.raises(ValueError, match="no gradient block"):
        projector(spec, variant).project([])


@pytest.mark.skipif(library.missing() is not None, reason=f"compiled kernels: {library.missing()}")
@pytest.mark.parametrize("kernel", ["auto", "c"])
@pytest.mark.parametrize("spec", SPECS[2:4], ids=["gaussian", "sjlt"])
def test_the_best_instruction_set_is_taken_and_named(spec: ProjectionSpec, kernel: str) -> None:
    assert projector(spec, kernel).kernel == next(name for name in NAMES if library.missing(name) is None)


@pytest.mark.parametrize("why", ["no compiler", "stale"])
def test_without_the_library_everything_works_and_asking_for_it_says_why_it_is_not_there(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "_load", lambda: why)
    block = Block("w", gradients(2, 100))
    assert projector(SPECS[0], "auto").kernel == "numpy-blas"
    assert_close(projector(SPECS[0], "auto").project([block]), SPECS[0], [block])
    for name in ("c", *NAMES):
        with pytest.raises(ConfigError, match=rf"{name} \({why}\)"):
            projector(SPECS[0], name)


def reason(monkeypatch: pytest.MonkeyPatch, origin: str | None) -> str:
    """What loading says when the library is found at ``origin``."""
    monkeypatch.setattr(library, "find_spec", lambda _: origin and SimpleNamespace(origin=origin))
    found = library._load.__wrapped__()
    assert isinstance(found, str)
    return found


def test_a_library_that_is_not_ours_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "needs a C compiler" in reason(monkeypatch, None)
    assert "does not load" in reason(monkeypatch, __file__)
    if _ctypes.__file__:
        assert "another version" in reason(monkeypatch, _ctypes.__file__)
