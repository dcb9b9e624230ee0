"""Sparse projection on the CPU without a compiled kernel: one signed scatter-add per non-zero entry of a row.

Sums are float64, and each sample is summed in the order of its coordinates. The result does not depend on the number of
threads, the batch or the division of gradients into blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from trak_cli.projection.blocks import dense, pieces
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.cpu.thread_pool import ThreadPool
from trak_cli.projection.definition import BLOCK, block_key, tensor_key, words
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.projection.tiles import SIGNS
from trak_cli.types import AnyBlock

#: Coordinates processed at once: their columns and signs stay in the cache for all samples.
PIECE = 16384


class SparseProjector:
    """Kind ``sjlt`` (see :class:`trak_cli.projection.contract.Projector`)."""

    kernel = "torch-scatter"

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
            T = tensor_key(self._job.spec.seed, self._job.checkpoint, block.name)
            for start, stop in pieces(block, PIECE):
                entries = _Entries.of(self._job.spec, T, start, stop)
                gradient = block.gradient[:, start - block.offset : stop - block.offset]
                self._pool.run(self._shares(entries, gradient, total))
        return (total * math.sqrt(self.dim / self._job.spec.nonzeros)).float()

    def _shares(self, entries: _Entries, gradient: torch.Tensor, total: torch.Tensor) -> list[partial[None]]:
        """One task per thread: every sample belongs to exactly one of them."""
        samples = -(-len(gradient) // self._pool.threads)
        starts = range(0, len(gradient), max(samples, 1))
        return [partial(entries.add_to, gradient[b : b + samples], total[b : b + samples]) for b in starts]


@dataclass(frozen=True)
class _Entries:
    """The non-zero entries of neighbouring rows of P: columns (s, rows) int64 and signs (s, rows) float64."""

    column: torch.Tensor
    sign: torch.Tensor

    @staticmethod
    def of(spec: ProjectionSpec, T: int, start: int, stop: int) -> _Entries:
        """The rows [start, stop) of the tensor with key ``T``, from two words per group of 16 rows and non-zero."""
        width = BLOCK["sjlt"]
        n = spec.dim // (width * spec.nonzeros)
        group = np.arange(start // width, -(-stop // width), dtype=np.uint64)
        word = words(block_key(T, "sjlt", group), np.arange(2 * spec.nonzeros)).T
        w1, w2 = np.ascontiguousarray(word[0::2]), word[1::2].astype(np.uint64)
        bucket = ((w2 * np.uint64(n)) >> np.uint64(32)).astype(np.int64)
        # 16·bucket + (lane ^ x) with x < 16 is (16·bucket + x) ^ lane.
        base = width * (n * np.arange(spec.nonzeros)[:, None] + bucket) + (w1 & np.uint32(15)).astype(np.int64)
        column = base[:, :, None] ^ np.arange(width)
        byte = (w1 >> np.uint32(16)).astype("<u2").view(np.uint8)
        lead = start % width
        rows = slice(lead, lead + stop - start)
        return _Entries(
            torch.from_numpy(column.reshape(spec.nonzeros, -1)[:, rows]),
            torch.from_numpy(SIGNS[byte].reshape(spec.nonzeros, -1)[:, rows]),
        )

    def add_to(self, gradient: torch.Tensor, total: torch.Tensor) -> None:
        """Add gradient (b, rows) times these entries to ``total`` (b, dim)."""
        for column, sign in zip(self.column, self.sign, strict=True):
            total.scatter_add_(1, column.expand(len(gradient), -1), gradient * sign)
