"""The kernels that project one gradient on a GPU, and their launch shapes, for any implementation of ``Gpu``.

Sums are split over the coordinates, each part is summed separately, and the parts are added in order. The split depends on the
shapes only, not on the GPU model, so repeated runs are bit-identical.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from trak_cli.projection.blocks import pieces
from trak_cli.projection.definition import BLOCK
from trak_cli.projection.gaussian_table import GAUSSIAN_TABLE
from trak_cli.projection.gpu.nvrtc_source import AT_ONCE, TILES
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block

#: Coordinates whose packed form exists at once; this bounds the working memory.
CHUNK = 2**21
#: Rows of one dense product, and of one sparse launch.
DENSE_ROWS, SPARSE_ROWS = 64, 4096
#: Thread blocks of a dense product (if the gradient is long enough), and of a sparse one. A GPU with 132 multiprocessors (H100,
#: H200) runs 264 blocks of a dense product at once, so 1056 blocks are four full rounds.
DENSE_BLOCKS, SPARSE_WORKERS = 1056, 8192
#: Floats in the partial sums of a sparse product; this bounds the working memory.
SPARSE_PARTIAL = 2**25
#: From this number of buckets on, a sparse kernel adds more blocks together.
MANY_BUCKETS = 64
#: Bytes of shared memory that a sparse product needs besides its sums.
SPARSE_PLAN = 256

#: The bits of the Gaussian table in float16, which holds it exactly.
_HALF_TABLE = GAUSSIAN_TABLE.astype(np.float16).view(np.int16)

_DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


@dataclass(frozen=True)
class Shape:
    """The launch shape of a kernel: blocks along x and y, threads per block, bytes of dynamic shared memory."""

    grid: tuple[int, int]
    threads: int
    shared: int = 0


class Gpu(Protocol):
    """Runs the kernels of ``nvrtc_source.ENTRY_POINTS`` in order.

    Attributes:
        shared_limit: the most bytes of shared memory of a thread block.
    """

    shared_limit: int

    def empty(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        """(count,) uninitialised memory for kernels."""

    def upload(self, values: np.ndarray[tuple[int], np.dtype[np.int16]]) -> torch.Tensor:
        """The values in memory that kernels can read."""

    def launch(self, file: str, kernel: str, shape: Shape, *arguments: torch.Tensor | np.generic) -> None:
        """Launch one kernel. A tensor is passed as its address; scalars have the widths of the kernel's parameters."""


def add_product(gpu: Gpu, spec: ProjectionSpec, stream: int, block: Block, out: torch.Tensor) -> None:
    """out += G_block · P_block, for P without a factor.

    Args:
        stream: the start of the block keys of this parameter (:func:`definition.stream_key`).
        block: a gradient in any floating dtype; dtypes other than float32, float16 and bfloat16 are converted to float32.
        out: (B, spec.dim) float32 with contiguous rows.
    """
    gradient = block.gradient if block.gradient.dtype in _DTYPES else block.gradient.float()
    if gradient.stride(1) != 1:
        gradient = gradient.contiguous()
    rows_at_once = SPARSE_ROWS if spec.kind == "sjlt" else DENSE_ROWS
    for row in range(0, len(gradient), rows_at_once):
        rows = slice(row, row + rows_at_once)
        if spec.kind == "sjlt":
            _add_sparse(gpu, spec, stream, Block(block.name, gradient[rows], block.offset), out[rows])
            continue
        for start, stop in pieces(block, CHUNK):
            part = gradient[rows, start - block.offset : stop - block.offset]
            _add_dense(gpu, spec, stream, Block(block.name, part, start), out[rows])


def _add_dense(gpu: Gpu, spec: ProjectionSpec, stream: int, block: Block, out: torch.Tensor) -> None:
    """See kernels/dense.cu for the three steps and the numbers 8, 128, 256 and 512."""
    gradient, (rows, width) = block.gradient, block.gradient.shape
    dtype = _DTYPES[gradient.dtype]
    first_block, lead = divmod(block.offset, BLOCK[spec.kind])
    groups = math.ceil((lead + width) / 128)
    tiles = next(count for count in TILES if 8 * count >= rows)
    record = 8 * 128 // BLOCK[spec.kind] + tiles * 128 * 16
    parts = 0 if dtype == "float16" else min(math.ceil(width / 4096), 64)

    peaks = gpu.empty(max(rows * parts, 1), torch.int32)
    records = gpu.empty(groups * record, torch.uint8)
    unscale = gpu.empty(8 * tiles, torch.float32)
    source = (gradient, np.int64(gradient.stride(0)), np.int64(width))
    if parts:
        gpu.launch("dense.cu", f"peak_{dtype}", Shape((parts, rows), 256), *source, peaks)
    place = (np.uint64(stream), np.uint64(first_block), np.int64(groups))
    shape = Shape((math.ceil(groups / 4), tiles), 256)
    scale = (peaks, np.int32(parts), records, unscale)
    gpu.launch("dense.cu", f"pack_{spec.kind}_{dtype}", shape, *source, np.int32(rows), np.int32(lead), *place, *scale)

    column_tiles = math.ceil(spec.dim / 256)
    per_split = max(math.ceil(groups / max(DENSE_BLOCKS // column_tiles, 1)), 8)
    splits = math.ceil(groups / per_split)
    table = gpu.upload(_HALF_TABLE) if spec.kind == "gaussian" else unscale
    shape = Shape((column_tiles, splits), 256, 2 * record + (512 if spec.kind == "gaussian" else 0))
    factors = (records, np.int32(groups), np.int32(per_split), table, unscale, np.int32(rows), np.int32(spec.dim))
    memory, target = _target(gpu, splits, out)
    gpu.launch("dense.cu", f"project_{spec.kind}_{tiles}", shape, *factors, memory, *target)
    if splits > 1:
        _add_parts(gpu, "dense.cu", splits, memory, out)


def _add_sparse(gpu: Gpu, spec: ProjectionSpec, stream: int, block: Block, out: torch.Tensor) -> None:
    """See kernels/sjlt.cu; blocks of 16 coordinates are distributed in rounds of 32."""
    gradient, (rows, width), k = block.gradient, block.gradient.shape, spec.dim
    first_block, lead = divmod(block.offset, BLOCK["sjlt"])
    blocks = math.ceil((lead + width) / 16)
    workers = min(SPARSE_WORKERS, max(SPARSE_PARTIAL // k, 1))
    # A worker takes at least 8 k coordinates, so that writing and reading its sums costs less than reading the gradient.
    per_split = 32 * math.ceil(max(blocks / max(workers // rows, 1), 4096 / 16, 8 * k / 16) / 32)
    splits = math.ceil(blocks / per_split)
    passes = math.ceil(k / ((gpu.shared_limit - SPARSE_PLAN) // 4 // 16 * 16))
    tile = 16 * math.ceil(k / passes / 16)

    shape = Shape((rows * splits, passes), 32, 4 * tile)
    source = (gradient, np.int64(gradient.stride(0)), np.int64(width), np.int32(rows), np.int32(lead))
    place = (np.uint64(stream), np.uint64(first_block), np.int64(blocks), np.int64(per_split))
    matrix = (np.int32(spec.nonzeros), np.int32(k), np.int32(tile), np.float32(math.sqrt(k / spec.nonzeros)))
    memory, target = _target(gpu, splits, out)
    at_once = max(AT_ONCE) if k // (16 * spec.nonzeros) >= MANY_BUCKETS else min(AT_ONCE)
    gpu.launch("sjlt.cu", f"sjlt_{_DTYPES[gradient.dtype]}_{at_once}", shape, *source, *place, *matrix, memory, *target)
    if splits > 1:
        _add_parts(gpu, "sjlt.cu", splits, memory, out)


def _target(gpu: Gpu, splits: int, out: torch.Tensor) -> tuple[torch.Tensor, tuple[np.int64, np.int64, np.int32]]:
    """The output of a kernel: its memory; the stride of a row, the stride of a split, and whether to add to its content."""
    if splits == 1:
        return out, (np.int64(out.stride(0)), np.int64(0), np.int32(1))
    rows, k = out.shape
    return gpu.empty(splits * rows * k, torch.float32), (np.int64(k), np.int64(rows * k), np.int32(0))


def _add_parts(gpu: Gpu, file: str, splits: int, partial: torch.Tensor, out: torch.Tensor) -> None:
    """out += the sum of the (splits, B, k) parts."""
    rows, k = out.shape
    sizes = (np.int32(splits), np.int32(rows), np.int32(k))
    shape = Shape((math.ceil(k / 256), rows), 256)
    gpu.launch(file, "reduce", shape, partial, *sizes, out, np.int64(out.stride(0)))
