"""The CPU projectors without a compiled kernel against the oracle, and the laws that make features independent of how the
work is cut."""

from __future__ import annotations

import threading
import tracemalloc
from itertools import pairwise

import numpy as np
import projection_oracle as oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.projection.contract import ProjectionJob, Projector
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block

CHECKPOINT = "0f" * 32
SIZES = {"w": 5000, "b": 37, "huge": 2**40}
SPECS = [
    ProjectionSpec("rademacher", 300, 3),
    ProjectionSpec("gaussian", 261, 3),
    ProjectionSpec("sjlt", 320, 3, nonzeros=1),
    ProjectionSpec("sjlt", 192, 3, nonzeros=4),
]
every_random_kind = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.nonzeros}")


def projector(spec: ProjectionSpec, threads: int = 2) -> Projector:
    return make_projector(ProjectionJob(spec, CHECKPOINT, SIZES, threads=threads), kernel="blas")


def gradients(batch: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed))


def cut(block: Block, marks: list[int]) -> list[Block]:
    """The same block in parts that begin at ``marks`` (columns)."""
    width = block.gradient.shape[1]
    edges = sorted({0, width, *(mark for mark in marks if mark < width)})
    return [Block(block.name, block.gradient[:, a:b], block.offset + a) for a, b in pairwise(edges)]


def assert_close(found: torch.Tensor, expected: torch.Tensor, blocks: list[Block], tolerance: float) -> None:
    """Equal to ``tolerance`` times the norm of each sample's whole gradient, which is the typical size of a feature."""
    norm = sum(block.gradient.double().square().sum(dim=1) for block in blocks) ** 0.5
    assert found.shape == expected.shape
    assert torch.all((found.double() - expected.double()).abs() <= tolerance * norm[:, None])


@settings(deadline=None, max_examples=50)
@given(
    kind=st.sampled_from(["rademacher", "gaussian", "sjlt"]),
    columns=st.integers(1, 600),
    nonzeros=st.integers(1, 3),
    batch=st.integers(1, 7),
    width=st.integers(1, 3000),
    offset=st.one_of(st.integers(0, 2000), st.integers(2**31, 2**39)),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
)
def test_projectors_equal_the_oracle(
    kind: str, columns: int, nonzeros: int, batch: int, width: int, offset: int, dtype: torch.dtype
) -> None:
    unit = 16 * nonzeros
    spec = ProjectionSpec(kind, -(-columns // unit) * unit if kind == "sjlt" else columns, 11, nonzeros)
    blocks = [Block("huge", gradients(batch, width).to(dtype), offset), Block("b", gradients(batch, 37, 1).to(dtype))]
    found = projector(spec).project(blocks)
    assert found.dtype == torch.float32
    assert found.shape == (batch, spec.dim)
    assert_close(found, torch.from_numpy(oracle.project(spec, CHECKPOINT, blocks)), blocks, 3e-6)


@every_random_kind
def test_a_unit_vector_reads_out_a_row_of_the_matrix_exactly(spec: ProjectionSpec) -> None:
    rows = [0, 1, 31, 32, 2047, 2048, 4999]
    unit = torch.zeros(len(rows), 5000)
    unit[range(len(rows)), rows] = 1
    found = projector(spec).project([Block("w", unit)])
    expected = oracle.matrix(spec, CHECKPOINT, "w", rows).astype(np.float32)
    np.testing.assert_array_equal(found.numpy(), expected)


@every_random_kind
def test_projection_is_linear(spec: ProjectionSpec) -> None:
    one, other = gradients(4, 5000, 1), gradients(4, 5000, 2)
    project = projector(spec).project
    together = project([Block("w", 2 * one - 3 * other)])
    apart = 2 * project([Block("w", one)]) - 3 * project([Block("w", other)])
    assert_close(together, apart, [Block("w", 5 * one)], 3e-6)


@settings(deadline=None, max_examples=30)
@given(spec=st.sampled_from(SPECS), marks=st.lists(st.integers(1, 4299), max_size=8), order=st.randoms())
def test_cutting_and_order_of_blocks_do_not_matter(spec: ProjectionSpec, marks: list[int], order: object) -> None:
    whole = [Block("w", gradients(3, 4300), 333), Block("b", gradients(3, 37, 1))]
    parts = [part for block in whole for part in cut(block, marks)]
    order.shuffle(parts)  # type: ignore[attr-defined]
    assert_close(projector(spec).project(parts), projector(spec).project(whole), whole, 5e-6)


@pytest.mark.parametrize("spec", SPECS[2:], ids=["sjlt-1", "sjlt-4"])
def test_sparse_features_do_not_change_in_a_single_bit_when_blocks_are_cut(spec: ProjectionSpec) -> None:
    block = Block("w", gradients(3, 4300), 333)
    assert torch.equal(projector(spec).project(cut(block, [1, 70, 71, 2048])), projector(spec).project([block]))


@every_random_kind
def test_a_sample_does_not_depend_on_its_batch(spec: ProjectionSpec) -> None:
    G = gradients(33, 5000)
    together = projector(spec).project([Block("w", G)])
    for part in (slice(0, 1), slice(5, 13), slice(20, 33)):
        alone = projector(spec).project([Block("w", G[part])])
        assert_close(alone, together[part], [Block("w", G[part])], 5e-6)


@every_random_kind
@pytest.mark.parametrize("batch", [1, 5, 32])
def test_threads_do_not_change_a_bit(spec: ProjectionSpec, batch: int) -> None:
    blocks = [Block("w", gradients(batch, 4900), 77), Block("b", gradients(batch, 37, 1))]
    one, *more = [projector(spec, threads).project(blocks) for threads in (1, 2, 3, 7)]
    assert all(torch.equal(one, other) for other in more)


@every_random_kind
def test_the_callers_thread_count_does_not_change_a_bit_either(spec: ProjectionSpec) -> None:
    block = Block("w", gradients(8, 5000))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(projector(spec, threads=1).project([block]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])


def test_a_projector_leaves_the_thread_count_of_pytorch_alone() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        projector(SPECS[0], threads=3).project([Block("b", gradients(1, 37))])
        seen = [torch.get_num_threads()]
        newborn = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        newborn.start()
        newborn.join()
        assert seen == [2, 2]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("spec", SPECS[:2], ids=["rademacher", "gaussian"])
def test_fewer_dense_columns_are_a_prefix_of_more(spec: ProjectionSpec) -> None:
    block = Block("w", gradients(3, 5000))
    few = projector(ProjectionSpec(spec.kind, 70, spec.seed)).project([block])
    assert_close(few, projector(spec).project([block])[:, :70], [block], 1e-6)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian", "sjlt"])
def test_memory_is_bounded_by_tiles_and_not_by_the_matrix(kind: str) -> None:
    p, k = 100_000, 2048
    tracemalloc.start()
    try:
        projector(ProjectionSpec(kind, k), threads=1).project([Block("huge", gradients(1, p))])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16e6 < 4 * p * k / 50


@every_random_kind
def test_where_a_gradient_lies_in_memory_does_not_change_a_bit(spec: ProjectionSpec) -> None:
    G = gradients(3, 5000)
    expected = projector(spec).project([Block("w", G)])
    transposed = G.T.contiguous().T
    unaligned = torch.empty(3 * 5001 + 1)[1:].reshape(3, 5001)[:, 1:].copy_(G)
    for view in (transposed, unaligned):
        assert torch.equal(projector(spec).project([Block("w", view)]), expected)


@every_random_kind
def test_features_carry_no_autograd_history(spec: ProjectionSpec) -> None:
    assert not projector(spec).project([Block("w", gradients(3, 5000).requires_grad_())]).requires_grad


@every_random_kind
def test_a_gradient_that_is_not_finite_shows_in_its_own_row_only(spec: ProjectionSpec) -> None:
    G = gradients(3, 5000)
    G[1, 4321] = torch.nan
    finite = projector(spec).project([Block("w", G)]).isfinite().all(dim=1)
    assert finite.tolist() == [True, False, True]


@every_random_kind
def test_blocks_that_do_not_fit_are_refused(spec: ProjectionSpec) -> None:
    project = projector(spec).project
    good = Block("w", gradients(2, 10))
    with pytest.raises(ValueError, match="no gradient block"):
        project([])
    with pytest.raises(ValueError, match="'v', which is no parameter"):
        project([Block("v", gradients(2, 10))])
    with pytest.raises(ValueError, match="3 samples in this block, 2 in the previous one"):
        project([good, Block("b", gradients(3, 10))])
    with pytest.raises(ValueError, match=r"coordinates \[30, 40\) of 37"):
        project([Block("b", gradients(2, 10), 30)])
    with pytest.raises(ValueError, match=r"not \(2, 5, 2\)"):
        project([Block("w", gradients(2, 10).reshape(2, 5, 2))])
    with pytest.raises(ValueError, match="on meta"):
        project([Block("w", gradients(2, 10).to("meta"))])


@every_random_kind
def test_an_empty_batch_or_block_is_accepted(spec: ProjectionSpec) -> None:
    assert projector(spec).project([Block("w", gradients(0, 10))]).shape == (0, spec.dim)
    assert not projector(spec).project([Block("w", gradients(2, 0))]).any()
