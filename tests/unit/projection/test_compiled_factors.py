"""The sparse projection of gradients that are given as outer products: values of the oracle, bits that never change."""

from __future__ import annotations

from itertools import pairwise

import projection_oracle as oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compiled import CHECKPOINT, VARIANTS, every_variant, gradients
from torch import Tensor

from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import KERNELS, make_projector, most_terms
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import AnyBlock, Block, FactorBlock

SPEC = ProjectionSpec("sjlt", 192, 3, nonzeros=3)


def factors(batch: int, terms: int, rows: int, columns: int, seed: int = 0) -> FactorBlock:
    made = torch.Generator().manual_seed(seed)
    sides = [torch.randn(batch, terms, size, generator=made) for size in (rows, columns)]
    return FactorBlock("w", *sides)


def part(block: FactorBlock, samples: slice) -> FactorBlock:
    return FactorBlock(block.name, block.left[samples], block.right[samples])


def projected(blocks: list[AnyBlock], size: int, variant: str, spec: ProjectionSpec = SPEC, threads: int = 1) -> Tensor:
    job = ProjectionJob(spec, CHECKPOINT, {"w": size, "b": 37}, threads=threads)
    return make_projector(job, variant).project(blocks)


def assert_close(found: Tensor, spec: ProjectionSpec, blocks: list[AnyBlock], tolerance: float = 1e-5) -> None:
    """The oracle's values, to ``tolerance`` times the largest: entries of the gradient are sums themselves."""
    expected = torch.from_numpy(oracle.project(spec, CHECKPOINT, blocks))
    assert found.dtype == torch.float32
    assert torch.all((found.double() - expected).abs() <= tolerance * expected.abs().max())


@every_variant
@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 9),
    terms=st.integers(0, 7),
    rows=st.integers(1, 40),
    groups=st.integers(1, 40),
    odd=st.sampled_from([0, 0, 0, 5]),
    buckets=st.integers(1, 5),
    nonzeros=st.sampled_from([1, 2, 3, 4, 8, 70]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_values_are_those_of_the_oracle(
    variant: str, batch: int, terms: int, rows: int, groups: int, odd: int, buckets: int, nonzeros: int, dtype: torch.dtype
) -> None:
    """Weights of any number of rows, whose rows consist of complete groups of 16 coordinates or not."""
    columns = 16 * groups + odd
    spec = ProjectionSpec("sjlt", 16 * nonzeros * buckets, 11, nonzeros)
    block = factors(batch, terms, rows, columns)
    block = FactorBlock("w", block.left.to(dtype), block.right.to(dtype))
    blocks = [Block("b", gradients(batch, 37, 1)), block]
    assert_close(projected(blocks, rows * columns, variant, spec, 2), spec, blocks)


@pytest.mark.parametrize("variant", [*VARIANTS, "blas"])
@pytest.mark.parametrize("kind", ["rademacher", "gaussian", "sjlt"])
def test_every_kernel_of_every_kind_accepts_factors(variant: str, kind: str) -> None:
    spec = ProjectionSpec(kind, 96, 3, nonzeros=1)
    blocks: list[AnyBlock] = [factors(3, 2, 7, 48)]
    assert_close(projected(blocks, 7 * 48, variant, spec), spec, blocks)


@every_variant
def test_a_large_weight_keeps_its_precision(variant: str) -> None:
    """More coordinates than are added up in float32, of one sign."""
    spec = ProjectionSpec("sjlt", 32, 3, nonzeros=2)
    blocks: list[AnyBlock] = [FactorBlock("w", torch.rand(2, 3, 150), torch.rand(2, 3, 1040) + 1)]
    assert_close(projected(blocks, 150 * 1040, variant, spec), spec, blocks, 2e-6)


@every_variant
def test_threads_and_the_rest_of_the_batch_do_not_change_a_bit_of_a_sample(variant: str) -> None:
    block = factors(11, 5, 37, 16 * 21)
    size = 37 * 16 * 21
    together = projected([block], size, variant)
    for threads in (2, 5):
        assert torch.equal(projected([block], size, variant, threads=threads), together)
    for a, b in pairwise([0, 1, 3, 6, 11]):
        assert torch.equal(projected([part(block, slice(a, b))], size, variant), together[a:b])


@every_variant
def test_the_memory_layout_of_factors_does_not_change_a_bit(variant: str) -> None:
    """Channels before positions, as convolutions have them, and rows that are not aligned."""
    block = factors(3, 4, 9, 64)
    expected = projected([block], 9 * 64, variant)
    left = block.left.transpose(1, 2).contiguous().transpose(1, 2)
    unaligned = torch.empty(3 * 4 * 65 + 1)[1:].reshape(3, 4, 65)[:, :, 1:].copy_(block.right)
    transposed = block.right.transpose(1, 2).contiguous().transpose(1, 2)
    for right in (unaligned, transposed, block.right.double()):
        given_left = left.double() if right.dtype == torch.float64 else left
        assert torch.equal(projected([FactorBlock("w", given_left, right)], 9 * 64, variant), expected)


@every_variant
def test_factors_that_are_not_finite_affect_their_own_sample_only(variant: str) -> None:
    for bad in (torch.nan, torch.inf):
        block = factors(5, 2, 6, 48)
        block.right[1, 1, 40] = bad
        found = projected([block], 6 * 48, variant)
        assert not torch.isfinite(found[1]).all()
        assert torch.isfinite(found[[0, 2, 3, 4]]).all()


def test_factors_that_do_not_fit_are_refused() -> None:
    good = factors(3, 2, 4, 16)
    for left, right in ((good.left[:, :1], good.right), (good.left[0], good.right), (good.left, good.right[:, :, :5])):
        with pytest.raises(ValueError, match=r"w: factors \(.*\) torch.float32 and .* of 64 coordinates"):
            projected([FactorBlock("w", left, right)], 64, "auto")
    with pytest.raises(ValueError, match="3 samples in this block, 2 in the previous one"):
        projected([Block("b", gradients(2, 37)), good], 64, "auto")


def test_only_the_compiled_sparse_kernels_prefer_factors() -> None:
    names = [kernel.name for kernel in KERNELS if "sjlt" in kernel.kinds and "cpu" in kernel.devices and not kernel.missing()]
    for name in names:
        assert (most_terms(SPEC, "cpu", name) > 0) == name.startswith("c")
    assert (
        most_terms(ProjectionSpec("rademacher", 64), "cpu", "auto")
        == most_terms(ProjectionSpec("none", 64), "cpu", "auto")
        == 0
    )
