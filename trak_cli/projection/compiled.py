"""Projection on the CPU by the compiled kernels.

The answer is cut into rectangles, samples × columns, one or more for each thread; each is summed up by one thread alone in
an order that depends on the coordinates only. So no result depends, to the bit, on the threads or on the batch. Sums are
float32 over short segments of coordinates, and the segments are added up in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial

import torch

from trak_cli.projection.blocks import checked, pieces
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.crew import Crew
from trak_cli.projection.definition import stream_key, tensor_key
from trak_cli.projection.gaussian_table import GAUSSIAN_TABLE
from trak_cli.projection.library import CJob, library
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block

#: Coordinates that are converted to float32 at once where a gradient has another dtype; a multiple of every block.
CONVERTED = 16384

#: Rows of a rectangle: the sums of that many stay in the second-level cache.
MAX_ROWS = 64

#: Additions below which waking the threads costs more than they save.
WORTH_THREADS = 500_000


class CompiledProjector:
    """Kinds ``rademacher``, ``gaussian`` and ``sjlt`` (see :class:`trak_cli.projection.contract.Projector`).

    Args:
        variant: which instruction set, one of ``library().variants``; that is also the name that is reported.
    """

    def __init__(self, job: ProjectionJob, variant: str) -> None:
        self.kernel = variant
        self.dim = job.spec.dim
        self._job = job
        self._crew = Crew(job.threads)
        self._table = torch.tensor(GAUSSIAN_TABLE, dtype=torch.float32)
        self._shares: dict[int, list[_Share]] = {}

    def project(self, blocks: Iterable[Block]) -> torch.Tensor:
        """Σ_blocks G_block · P_block: (B, dim) float32."""
        spec = self._job.spec
        shares: list[_Share] | None = None
        batch = 0
        for block in checked(blocks, self._job):
            if shares is None:
                batch = len(block.gradient)
                shares = self._begin(batch)
            if block.gradient.numel() > 0:
                stream = stream_key(tensor_key(spec.seed, self._job.checkpoint, block.name), spec.kind)
                self._run(shares, block, stream)
        features = torch.empty(batch, self.dim)
        factor = math.sqrt(self.dim / spec.nonzeros) if spec.kind == "sjlt" else 1.0
        for share in shares or ():
            share.read(factor, features)
        return features

    def _begin(self, batch: int) -> list[_Share]:
        """The rectangles that make up the answer to a batch, all zero; those of the last batch if it was as large."""
        if batch not in self._shares:
            self._shares = {batch: self._divide(batch)}
        for share in self._shares[batch]:
            share.reset()
        return self._shares[batch]

    def _divide(self, batch: int) -> list[_Share]:
        spec = self._job.spec
        if spec.kind == "sjlt":
            rows = _cut(batch, math.ceil(batch / self._crew.threads), 2)
            columns = [range(spec.dim)]
        else:
            rows = _cut(batch, MAX_ROWS, 16)
            columns = _cut(spec.dim, min(math.ceil(spec.dim / self._crew.threads), library().max_columns), 64)
        return [_Share(self.kernel, spec, self._table, r, c) for r in rows for c in columns]

    def _run(self, shares: list[_Share], block: Block, stream: int) -> None:
        tasks = [partial(share.add, block, stream) for share in shares]
        per_entry = self._job.spec.nonzeros if self._job.spec.kind == "sjlt" else self.dim
        if self._crew.threads == 1 or block.gradient.numel() * per_entry < WORTH_THREADS:
            for task in tasks:
                task()
        else:
            self._crew.run(tasks)


def _cut(total: int, length: int, unit: int) -> list[range]:
    """[0, total) in parts of ``length``, rounded up to a multiple of ``unit``."""
    step = max(math.ceil(length / unit), 1) * unit
    return [range(start, min(start + step, total)) for start in range(0, total, step)]


class _Share:
    """One rectangle of the answer and its running sums."""

    def __init__(self, variant: str, spec: ProjectionSpec, table: torch.Tensor, rows: range, columns: range) -> None:
        self._lib = library()
        self._variant, self._kind = variant, spec.kind
        self._rows, self._columns = rows, columns
        sums = self._lib.floats(variant, spec.kind, len(rows), len(columns))
        self._partial = torch.empty(sums)
        self._total = torch.empty(sums, dtype=torch.float64)
        self._scratch = torch.empty(self._lib.scratch_bytes, dtype=torch.uint8)
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
        """Forget everything that was added."""
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
            self._lib.project(self._variant, self._kind, self._job)

    def read(self, factor: float, features: torch.Tensor) -> None:
        """Write the sums times ``factor`` to their place in ``features`` (B, dim)."""
        out = features[self._rows.start : self._rows.stop, self._columns.start : self._columns.stop]
        self._lib.read(self._variant, self._kind, self._job, factor, out)


def _as_float32(gradient: torch.Tensor, offset: int) -> Iterator[tuple[int, torch.Tensor]]:
    """The gradient as it is, or in short converted pieces: each with the coordinate of its first column."""
    if gradient.dtype == torch.float32 and gradient.stride(1) == 1:
        yield offset, gradient
        return
    for start, stop in pieces(Block("", gradient, offset), CONVERTED):
        yield start, gradient[:, start - offset : stop - offset].float().contiguous()
