"""Dense projection on the CPU without a compiled kernel: cache-sized tiles of P are computed and multiplied by the BLAS.

The tiles lie on a grid of absolute coordinates and columns, each product is a float32 matrix product on one core, and the
products are added up in float64. The result does not depend on the number of threads; it depends on the batch and on the
division of gradients into blocks only by the rounding inside one product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from trak_cli.projection.blocks import dense, pieces
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.cpu.thread_pool import ThreadPool
from trak_cli.projection.definition import BLOCK, UInt64, block_key, tensor_key
from trak_cli.projection.tiles import TileFiller
from trak_cli.types import AnyBlock, Block

#: 2 MB of float32 entries: small enough for the cache, and large enough for the overhead of Python calls to be small.
TILE_COORDINATES = 2048
TILE_COLUMNS = 256


class DenseProjector:
    """Kinds ``rademacher`` and ``gaussian`` (see :class:`trak_cli.projection.contract.Projector`)."""

    kernel = "numpy-blas"

    def __init__(self, job: ProjectionJob) -> None:
        self.dim = job.spec.dim
        self._job = job
        self._pool = ThreadPool(job.thread_count)

    def project(self, blocks: Iterable[AnyBlock]) -> torch.Tensor:
        """Σ_blocks G_block · P_block: (B, dim) float32."""
        total = torch.empty(0)
        for block in dense(blocks, self._job):
            if total.numel() == 0:
                total = torch.zeros(len(block.gradient), self.dim, dtype=torch.float64)
            self._pool.run(list(self._shares(block, total)))
        return total.float()

    def _shares(self, block: Block, total: torch.Tensor) -> Iterator[Callable[[], None]]:
        """One task per thread: every strip of columns belongs to exactly one of them."""
        if block.gradient.numel() == 0:
            return
        strips = [range(c, min(c + TILE_COLUMNS, self.dim)) for c in range(0, self.dim, TILE_COLUMNS)]
        product = _BlockProduct.of(block, self._job)
        for thread in range(min(self._pool.threads, len(strips))):
            yield partial(product.add_to, total, strips[thread :: self._pool.threads])


@dataclass(frozen=True)
class _BlockProduct:
    """The product G_block · P_block, computed by strips of columns."""

    kind: str
    block: Block
    keys: UInt64

    @staticmethod
    def of(block: Block, job: ProjectionJob) -> _BlockProduct:
        width = BLOCK[job.spec.kind]
        end = block.offset + block.gradient.shape[1]
        T = tensor_key(job.spec.seed, job.checkpoint, block.name)
        numbers = np.arange(block.offset // width, -(-end // width), dtype=np.uint64)
        return _BlockProduct(job.spec.kind, block, block_key(T, job.spec.kind, numbers))

    def add_to(self, total: torch.Tensor, strips: list[range]) -> None:
        """Add the product to the columns ``strips`` of ``total`` (B, dim), which no other thread writes to."""
        width = BLOCK[self.kind]
        first = self.block.offset // width
        filler = TileFiller(self.kind, min(TILE_COORDINATES, len(self.keys) * width), len(strips[0]))
        for start, stop in pieces(self.block, TILE_COORDINATES):
            part = self.block.gradient[:, start - self.block.offset : stop - self.block.offset]
            # Float32 is copied too: alignment and strides may change the rounding of the BLAS, and are now always the same.
            gradient = torch.empty(part.shape).copy_(part)
            keys = self.keys[start // width - first : -(-stop // width) - first]
            lead = start % width
            for strip in strips:
                tile = torch.from_numpy(filler.fill(keys, strip))[:, lead : lead + stop - start]
                total[:, strip.start : strip.stop] += gradient @ tile.T
