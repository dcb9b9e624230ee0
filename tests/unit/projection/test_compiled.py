"""The compiled CPU kernels agree with the oracle for every instruction set of this processor, and their bits never change."""

from __future__ import annotations

import _ctypes
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import projection_oracle as oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.errors import ConfigError
from trak_cli.projection.contract import ProjectionJob, Projector
from trak_cli.projection.cpu import ctypes_binding as library
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import AnyBlock, Block, RowBlock

CHECKPOINT = "5a" * 32
SIZES = {"w": 200_000, "b": 37, "huge": 2**40}
CPU = torch.device("cpu")
NAMES = ("c-avx512", "c-avx2", "c-portable")
VARIANTS = [
    pytest.param(name, marks=pytest.mark.skipif(why is not None, reason=f"{name}: {why}"))
    for name, why in ((name, library.missing(name)) for name in NAMES)
]
every_variant = pytest.mark.parametrize("variant", VARIANTS)
SPECS = [
    ProjectionSpec("rademacher", 300, 3),
    ProjectionSpec("rademacher", 4100, 3),  # wider than what one task of the thread pool takes
    ProjectionSpec("gaussian", 261, 3),
    ProjectionSpec("sjlt", 320, 3, nonzeros=1),
    ProjectionSpec("sjlt", 192, 3, nonzeros=3),
    ProjectionSpec("sjlt", 128, 3, nonzeros=8),
]


def _name(spec: ProjectionSpec) -> str:
    return f"{spec.kind}-{spec.dim}-{spec.nonzeros}"


every_spec = pytest.mark.parametrize("spec", SPECS, ids=_name)
one_spec_of_each_kind = pytest.mark.parametrize("spec", SPECS[1:4], ids=_name)


def projector(spec: ProjectionSpec, variant: str, threads: int = 1) -> Projector:
    return make_projector(ProjectionJob(spec, CHECKPOINT, SIZES, threads=threads), kernel=variant)


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
def test_values_are_those_of_the_oracle(
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


def some_rows(batch: int, rows: int, width: int, seed: int) -> RowBlock:
    """A few rows for every sample but the first, which has none."""
    chosen = torch.rand(batch, rows, generator=torch.Generator().manual_seed(seed)) < 0.2
    chosen[0] = False
    sample, row = chosen.nonzero().T
    return RowBlock("w", batch, sample, row, gradients(len(row), width, seed))


@cache
def rows_and_their_projection(spec: ProjectionSpec, batch: int, rows: int, width: int) -> tuple[list[AnyBlock], torch.Tensor]:
    """Blocks of embedding rows around a dense block, and the oracle's projection of them."""
    blocks: list[AnyBlock] = [
        some_rows(batch, rows, width, 5),
        Block("b", gradients(batch, 37)),
        some_rows(batch, rows, width, 6),
    ]
    return blocks, torch.from_numpy(oracle.project(spec, CHECKPOINT, blocks))


@pytest.mark.parametrize("variant", [*VARIANTS, "blas"])
@every_spec
@pytest.mark.parametrize(("batch", "rows", "width"), [(1, 40, 7), (5, 120, 33), (17, 20, 300)])
def test_rows_of_an_embedding_are_projected_like_the_dense_gradient(
    variant: str, spec: ProjectionSpec, batch: int, rows: int, width: int
) -> None:
    blocks, expected = rows_and_their_projection(spec, batch, rows, width)
    found = projector(spec, variant, 2).project(blocks)
    norm = expected.norm(dim=1, keepdim=True).clamp(min=1)
    assert torch.all((found.double() - expected).abs() <= 3e-6 * norm)
    if variant != "blas":
        assert torch.equal(found, projector(spec, variant, 1).project(blocks))


@every_variant
@pytest.mark.parametrize(("buckets", "nonzeros"), [(1, 2), (2, 1), (64, 3), (71, 2), (65_535, 1), (65_536, 1), (65_537, 1)])
def test_any_number_of_buckets_gives_the_values_of_the_oracle(variant: str, buckets: int, nonzeros: int) -> None:
    """One bucket, a power of two, any other number; below and above what 16 bits hold."""
    spec = ProjectionSpec("sjlt", 16 * nonzeros * buckets, 3, nonzeros)
    blocks = [Block("w", gradients(2, 100), 5)]
    found, expected = projector(spec, variant).project(blocks), torch.from_numpy(oracle.project(spec, CHECKPOINT, blocks))
    assert torch.allclose(found.double(), expected, rtol=1e-6, atol=1e-5)


@every_variant
@every_spec
def test_the_number_of_threads_does_not_change_a_bit(variant: str, spec: ProjectionSpec) -> None:
    for batch in (1, 21, 70):
        blocks = [Block("w", gradients(batch, 2600), 77), Block("b", gradients(batch, 37, 1))]
        one, *more = [projector(spec, variant, threads).project(blocks) for threads in (1, 2, 5)]
        assert all(torch.equal(one, other) for other in more)


@every_variant
@every_spec
def test_the_rest_of_the_batch_does_not_change_a_bit_of_a_sample(variant: str, spec: ProjectionSpec) -> None:
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
def test_a_tensor_may_be_cut_into_blocks(variant: str, spec: ProjectionSpec, marks: list[int], unit: int) -> None:
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
    blocks = [Block("w", gradients(2, 140_000).double() + 1, 3001)]  # longer than one segment and one conversion buffer
    assert_close(projector(spec, variant).project(blocks), spec, blocks)
    single = [Block("w", blocks[0].gradient.float(), 3001)]
    assert torch.equal(projector(spec, variant).project(single), projector(spec, variant, 2).project(blocks))


@every_variant
@every_spec
def test_a_gradient_that_is_not_finite_affects_its_own_sample_only(variant: str, spec: ProjectionSpec) -> None:
    reached = torch.from_numpy(oracle.matrix(spec, CHECKPOINT, "w", [2345])[0] != 0)
    for bad, batch in ((torch.nan, 3), (torch.inf, 20)):
        G = gradients(batch, 2600)
        G[1, 2345] = bad
        found = projector(spec, variant).project([Block("w", G)])
        assert torch.equal(found[1].isfinite(), ~reached)
        assert torch.isfinite(found[[row for row in range(batch) if row != 1]]).all()


@every_variant
@one_spec_of_each_kind
def test_the_memory_layout_of_a_gradient_does_not_change_a_bit(variant: str, spec: ProjectionSpec) -> None:
    G = gradients(3, 2600)
    expected = projector(spec, variant).project([Block("w", G)])
    transposed = G.T.contiguous().T
    unaligned = torch.empty(3 * 2601 + 1)[1:].reshape(3, 2601)[:, 1:].copy_(G)
    for view in (transposed, unaligned, G.double()):
        assert torch.equal(projector(spec, variant).project([Block("w", view)]), expected)


@every_variant
@one_spec_of_each_kind
def test_a_projector_keeps_nothing_of_an_earlier_batch(variant: str, spec: ProjectionSpec) -> None:
    project = projector(spec, variant, 2).project
    first, other = [Block("w", gradients(3, 900))], [Block("w", gradients(5, 900, 1))]
    before = project(first)
    project(other)
    assert torch.equal(project(first), before)


@every_variant
@one_spec_of_each_kind
def test_an_empty_batch_has_no_rows_and_an_empty_block_adds_nothing(variant: str, spec: ProjectionSpec) -> None:
    assert projector(spec, variant).project([Block("w", gradients(0, 10))]).shape == (0, spec.dim)
    assert not projector(spec, variant).project([Block("w", gradients(2, 0))]).any()
    with pytest.raises(ValueError, match="no gradient block"):
        projector(spec, variant).project([])


@pytest.mark.skipif(library.missing() is not None, reason=f"compiled kernels: {library.missing()}")
@pytest.mark.parametrize("kernel", ["auto", "c"])
@pytest.mark.parametrize("spec", SPECS[2:4], ids=["gaussian", "sjlt"])
def test_the_best_instruction_set_is_chosen_and_named(spec: ProjectionSpec, kernel: str) -> None:
    assert projector(spec, kernel).kernel == next(name for name in NAMES if library.missing(name) is None)


@pytest.mark.parametrize("why", ["no compiler", "stale"])
def test_without_the_library_auto_falls_back_to_blas_and_the_compiled_kernels_say_why_they_are_missing(
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


def test_a_foreign_library_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "needs a C compiler" in reason(monkeypatch, None)
    assert "does not load" in reason(monkeypatch, __file__)
    if _ctypes.__file__:
        assert "another version" in reason(monkeypatch, _ctypes.__file__)
