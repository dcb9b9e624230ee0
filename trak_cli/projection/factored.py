"""Kind ``factored``: the gradient of a weight is multiplied from both sides, and then by the sparse matrix.

For a gradient that is a sum of outer products, Σ_t g_t x_tᵀ, LᵀGR = Σ_t (Lᵀg_t)(Rᵀx_t)ᵀ, so the full gradient is never
materialised (Choe et al. 2024, arXiv 2405.13954, section 3.2). A dense gradient, or one given by rows, is multiplied directly;
the result is the same because every step is linear.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trak_cli.plurals import counted
from trak_cli.projection.contract import ProjectionJob, Projector
from trak_cli.projection.definition import rademacher, tensor_key
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import AnyBlock, Block, FactorBlock, RowBlock, listed

#: If the config does not set the columns: the least number on either side, and the number of products, over all weights, per
#: feature. Fewer products cost quality (docs/benchmarks.md).
LEAST, PER_FEATURE = 16, 4


def factor_sizes(spec: ProjectionSpec, matrices: int) -> tuple[int, int]:
    """Columns on the left and on the right: those of the spec, or those that the constants above give."""
    if spec.factors is not None:
        left, right = spec.factors
        return left, right
    both = max(LEAST, math.ceil(math.sqrt(PER_FEATURE * spec.dim / max(matrices, 1))))
    return both, both


def last_step(job: ProjectionJob) -> ProjectionJob:
    """The job of the sparse matrix that follows, in which a weight has one coordinate per product."""
    left, right = factor_sizes(job.spec, len(job.matrices))
    products = {name: min(m, left) * min(n, right) for name, (m, n) in job.matrices.items()}
    return replace(job, spec=replace(job.spec, kind="sjlt", factors=None), sizes={**job.sizes, **products}, matrices={})


class FactoredProjector:
    """Kind ``factored`` (see :class:`trak_cli.projection.contract.Projector`).

    Args:
        last: the projector for :func:`last_step`.
    """

    def __init__(self, job: ProjectionJob, last: Projector) -> None:
        self.kernel = f"factored, {last.kernel}"
        self.dim = job.spec.dim
        self._last = last
        # All at once, before any gradient: small permanent tensors between large temporary ones would fragment the heap.
        self._pairs = {name: _Pair.of(job, name) for name in job.matrices}

    def project(self, blocks: Iterable[AnyBlock]) -> Tensor:
        """Σ_blocks of Sᵀ vec(LᵀGR), or SᵀG for a parameter that is no matrix: (B, dim) float32."""
        return self._last.project(self._small(blocks))

    def _small(self, blocks: Iterable[AnyBlock]) -> Iterator[AnyBlock]:
        for block in blocks:
            pair = self._pairs.get(block.name)
            yield block if pair is None else pair.products(block)


@dataclass(frozen=True)
class _Pair:
    """√a·L (m, a) and √b·R (n, b) of one weight, float32 on the device, None for the identity; scale = 1/√(a·b) of those."""

    shape: tuple[int, int]
    left: Tensor | None
    right: Tensor | None
    scale: float

    @staticmethod
    def of(job: ProjectionJob, name: str) -> _Pair:
        T = tensor_key(job.spec.seed, job.checkpoint, name)
        shape = job.matrices[name]
        sides: list[Tensor | None] = []
        scale = 1.0
        for length, columns, side in zip(shape, factor_sizes(job.spec, len(job.matrices)), ("left", "right"), strict=True):
            if columns >= length:
                sides.append(None)
                continue
            signs = rademacher(T, np.arange(length), np.arange(columns), side).astype(np.float32)
            sides.append(torch.from_numpy(signs).to(job.device))
            scale /= math.sqrt(columns)
        return _Pair(shape, sides[0], sides[1], scale)

    def products(self, block: AnyBlock) -> Block:
        """vec(LᵀGR): (B, a·b), float32 or, for a float64 gradient, float64.

        Raises:
            ValueError: the block does not fit the weight.
        """
        if isinstance(block, FactorBlock):
            left, right = _checked(block, self.shape)
            products = torch.bmm(_times(left, self.left).transpose(1, 2), _times(right, self.right))
        elif isinstance(block, RowBlock):
            products = self._of_rows(block)
        else:
            products = self._of_dense(block)
        return Block(block.name, (products * self.scale).flatten(1))

    def _of_dense(self, block: Block) -> Tensor:
        """For a run of coordinates, which is padded to complete rows of the weight."""
        m, n = self.shape
        gradient = _wide(block.gradient)
        if gradient.ndim != 2 or block.offset < 0 or block.offset + gradient.shape[1] > m * n:
            raise ValueError(f"{block.name}: {tuple(gradient.shape)} from coordinate {block.offset} on, in a {m}×{n} weight")
        first, before = divmod(block.offset, n)
        rows = slice(first, -(-(block.offset + gradient.shape[1]) // n))
        after = (rows.stop - first) * n - before - gradient.shape[1]
        if before or after:
            gradient = torch.nn.functional.pad(gradient, (before, after))
        product = _times(gradient.reshape(len(gradient), rows.stop - first, n), self.right)
        if self.left is not None:
            return torch.einsum("ma,bmc->bac", self.left[rows].to(product.dtype), product)
        return torch.nn.functional.pad(product, (0, 0, first, m - rows.stop))

    def _of_rows(self, block: RowBlock) -> Tensor:
        """For a few rows per sample: the left factors are the rows of L (or of the identity) that belong to them.

        Samples are padded to the same number of rows, so that one batched product sums them in a fixed order.
        """
        m, n = self.shape
        values = _wide(block.values)
        if values.ndim != 2 or values.shape[1] != n or not len(block.row) == len(block.sample) == len(values):
            raise ValueError(f"{block.name}: rows of shape {tuple(values.shape)} for a {m}×{n} weight")
        left = torch.nn.functional.one_hot(block.row, m).to(values) if self.left is None else self.left[block.row].to(values)
        right = _times(values, self.right)
        counts = torch.bincount(block.sample, minlength=block.batch)
        place = torch.arange(len(block.sample), device=values.device) - (counts.cumsum(0) - counts)[block.sample]
        most = int(counts.max()) if len(counts) else 0
        padded = [factor.new_zeros(block.batch, most, factor.shape[1]) for factor in (left, right)]
        for target, factor in zip(padded, (left, right), strict=True):
            target[block.sample, place] = factor
        return torch.bmm(padded[0].transpose(1, 2), padded[1])


def describe_factors(spec: ProjectionSpec, sizes: Mapping[str, int], matrices: Mapping[str, tuple[int, int]]) -> str:
    """One sentence for the log: which parameters are multiplied from both sides, and which are not."""
    left, right = factor_sizes(spec, len(matrices))
    rest = [name for name in sizes if name not in matrices]
    described = f"{len(matrices)} of {counted(len(sizes), 'parameter tensor')} from both sides, to at most {left} × {right}"
    if not rest:
        return described
    return f"{described}; {listed(rest)} ({sum(sizes[name] for name in rest):,} coordinates) by the sparse matrix alone"


def _checked(block: FactorBlock, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    left, right = _wide(block.left), _wide(block.right)
    if left.shape[:-1] != right.shape[:-1] or (left.shape[-1], right.shape[-1]) != shape or left.ndim != 3:
        m, n = shape
        raise ValueError(f"{block.name}: factors {tuple(left.shape)} and {tuple(right.shape)} of a {m}×{n} weight")
    return left, right


def _wide(values: Tensor) -> Tensor:
    """The values detached, in float64 if they are float64 and otherwise in float32."""
    values = values.detach()
    return values if values.dtype == torch.float64 else values.float()


def _times(values: Tensor, signs: Tensor | None) -> Tensor:
    """values (…, length) times signs (length, columns); the values themselves for the identity."""
    return values if signs is None else values @ signs.to(values.dtype)
