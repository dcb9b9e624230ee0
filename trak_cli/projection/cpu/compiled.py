"""Projection on the CPU by the compiled kernels.

The result is divided into rectangles, samples × columns, at least one per thread. Each is summed by a single thread in an order
that depends on the coordinates only, so results are bit-identical for every number of threads and every batch. Sums are float32
over short segments of coordinates, and the segments are added up in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial

import torch

from trak_cli.projection.blocks import checked, pieces
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.cpu.ctypes_binding import CFactors, CJob, library
from trak_cli.projection.cpu.thread_pool import ThreadPool
from trak_cli.projection.definition import BLOCK, stream_key, tensor_key
from trak_cli.projection.gaussian_table import GAUSSIAN_TABLE
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import AnyBlock, Block, FactorBlock, RowBlock

#: Coordinates that are converted to float32 at once if a gradient has another dtype; a multiple of every block size.
CONVERTED = 16384

#: The most rows of a rectangle, so that its sums fit into the second-level cache.
MAX_ROWS = 64

#: With fewer additions, waking the threads costs more time than they save.
WORTH_THREADS = 500_000

#: By instruction set, best first: the most outer products of which ``sjlt`` reads a gradient as factors faster than a library
#: computes it and ``sjlt`` reads the result (measured for weights of 512 × 4608 and 1000 × 2048, batch 16).
TERMS = {"c-avx512": 64, "c-avx2": 32, "c-portable": 8}


class CompiledProjector:
    """Kinds ``rademacher``, ``gaussian`` and ``sjlt`` (see :class:`trak_cli.projection.contract.Projector`).

    Args:
        variant: the instruction set, a key of ``library().variants``; it is also the reported name of the kernel.
    """

    def __init__(self, job: ProjectionJob, variant: str) -> None:
        self.kernel = variant
        self.dim = job.spec.dim
        self._job = job
        self._pool = ThreadPool(job.thread_count)
        self._table = torch.tensor(GAUSSIAN_TABLE, dtype=torch.float32)
        self._shares: dict[int, list[_Share]] = {}
        self._single: dict[int, list[_Share]] = {}

    def project(self, blocks: Iterable[AnyBlock]) -> torch.Tensor:
        """Σ_blocks G_block · P_block: (B, dim) float32."""
        spec = self._job.spec
        dense_shares: list[_Share] = []
        row_shares: list[_Share] = []
        batch = 0
        for block in checked(blocks, self._job, self._reads):
            batch = block.batch
            stream = stream_key(tensor_key(spec.seed, self._job.checkpoint, block.name), spec.kind)
            if isinstance(block, RowBlock):
                row_shares = row_shares or self._begin(self._single, batch, [range(row, row + 1) for row in range(batch)])
                self._run([partial(share.add_rows, block, stream) for share in row_shares], block.values.numel())
            elif isinstance(block, FactorBlock):
                dense_shares = dense_shares or self._begin(self._shares, batch, self._rows(batch))
                work = block.left.numel() * block.right.shape[2]
                self._run([partial(share.add_factors, block, stream) for share in dense_shares], work)
            elif block.gradient.numel() > 0:
                dense_shares = dense_shares or self._begin(self._shares, batch, self._rows(batch))
                self._run([partial(share.add, block, stream) for share in dense_shares], block.gradient.numel())
        features = torch.zeros(batch, self.dim)
        factor = math.sqrt(self.dim / spec.nonzeros) if spec.kind == "sjlt" else 1.0
        for share in (*dense_shares, *row_shares):
            share.read(factor, features)
        return features

    def _reads(self, block: FactorBlock) -> bool:
        """Whether a kernel reads these factors; otherwise their product is projected."""
        return self._job.spec.kind == "sjlt" and block.right.shape[2] % BLOCK["sjlt"] == 0

    def _begin(self, kept: dict[int, list[_Share]], batch: int, rows: list[range]) -> list[_Share]:
        """Rectangles over these rows of the result, all zero; those of the last batch are reused if it had the same size."""
        if batch not in kept:
            kept.clear()
            kept[batch] = [_Share(self.kernel, self._job.spec, self._table, r, c) for r in rows for c in self._columns()]
        for share in kept[batch]:
            share.reset()
        return kept[batch]

    def _rows(self, batch: int) -> list[range]:
        if self._job.spec.kind == "sjlt":
            return _cut(batch, math.ceil(batch / self._pool.threads), 2)
        return _cut(batch, MAX_ROWS, 16)

    def _columns(self) -> list[range]:
        dim = self._job.spec.dim
        if self._job.spec.kind == "sjlt":
            return [range(dim)]
        return _cut(dim, min(math.ceil(dim / self._pool.threads), library().max_columns), 64)

    def _run(self, tasks: list[partial[None]], numbers: int) -> None:
        per_entry = self._job.spec.nonzeros if self._job.spec.kind == "sjlt" else self.dim
        if self._pool.threads == 1 or numbers * per_entry < WORTH_THREADS:
            for task in tasks:
                task()
        else:
            self._pool.run(tasks)


def _cut(total: int, length: int, unit: int) -> list[range]:
    """[0, total) in parts of ``length``, rounded up to a multiple of ``unit``."""
    step = max(math.ceil(length / unit), 1) * unit
    return [range(start, min(start + step, total)) for start in range(0, total, step)]


class _Share:
    """One rectangle of the result and its running sums."""

    def __init__(self, variant: str, spec: ProjectionSpec, table: torch.Tensor, rows: range, columns: range) -> None:
        loaded = library()
        self._handle, self._key = loaded.handle, loaded.key(variant, spec.kind)
        self._rows, self._columns = rows, columns
        sums = self._handle.trak_floats(*self._key, len(rows), len(columns))
        self._partial = torch.empty(sums)
        self._total = torch.empty(sums, dtype=torch.float64)
        self._scratch = torch.empty(loaded.scratch_bytes, dtype=torch.uint8)
        self._table = table
        self._job = CJob(
            rows=len(rows),
            column=columns.start,
            columns=len(columns),
            nonzeros=spec.nonzeros,
            table=table.data_ptr(),
            partial=self._partial.data_ptr(),
            total=self._total.data_ptr(),
            scratch=self._scratch.data_ptr(),
        )

    def reset(self) -> None:
        """Set all sums to zero."""
        self._partial.zero_()
        self._total.zero_()
        self._job.pending = 0

    def add(self, block: Block, stream: int) -> None:
        """Add the product of these rows of the gradient and these columns of the matrix."""
        self._job.stream = stream
        for offset, gradient in _as_float32(block.gradient[self._rows.start : self._rows.stop], block.offset):
            self._job.gradient = gradient.data_ptr()
            self._job.stride = gradient.stride(0)
            self._job.offset = offset
            self._job.length = gradient.shape[1]
            self._handle.trak_project(*self._key, self._job)

    def add_factors(self, block: FactorBlock, stream: int) -> None:
        """Add the product of these rows of the gradient, which is not formed, and the matrix."""
        left = block.left[self._rows.start : self._rows.stop].float()
        right = block.right[self._rows.start : self._rows.stop].float()
        right = right if right.stride(2) == 1 else right.contiguous()
        factors = CFactors(
            left=left.data_ptr(),
            right=right.data_ptr(),
            terms=left.shape[1],
            rows=left.shape[2],
            columns=right.shape[2],
            left_sample=left.stride(0),
            left_term=left.stride(1),
            left_row=left.stride(2),
            right_sample=right.stride(0),
            right_term=right.stride(1),
        )
        self._job.stream = stream
        self._handle.trak_project_factors(self._key[0], self._job, factors)

    def add_rows(self, block: RowBlock, stream: int) -> None:
        """Add the product of the non-zero rows of the gradient of this one sample."""
        first, stop = torch.searchsorted(block.sample, torch.tensor([self._rows.start, self._rows.stop])).tolist()
        if first == stop:
            return
        values = block.values[first:stop].float().contiguous()
        rows = block.row[first:stop].contiguous()
        self._job.stream = stream
        self._job.stride = 0
        self._job.gradient = values.data_ptr()
        self._job.length = values.shape[1]
        self._handle.trak_project_rows(*self._key, self._job, rows.data_ptr(), len(rows))

    def read(self, factor: float, features: torch.Tensor) -> None:
        """Add the sums times ``factor`` to their part of ``features`` (B, dim)."""
        out = features[self._rows.start : self._rows.stop, self._columns.start : self._columns.stop]
        self._handle.trak_read(*self._key, self._job, factor, out.data_ptr(), out.stride(0))


def _as_float32(gradient: torch.Tensor, offset: int) -> Iterator[tuple[int, torch.Tensor]]:
    """The gradient itself if it is float32, otherwise short converted pieces, each with the coordinate of its first column."""
    if gradient.dtype == torch.float32 and gradient.stride(1) == 1:
        yield offset, gradient
        return
    for start, stop in pieces(Block("", gradient, offset), CONVERTED):
        yield start, gradient[:, start - offset : stop - offset].float().contiguous()
