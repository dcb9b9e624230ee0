"""Gradient blocks on their way through a projector: refused when they do not fit, cut on an absolute grid, filled up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from trak_cli.projection.contract import ProjectionJob
from trak_cli.types import AnyBlock, Block, FactorBlock, RowBlock

#: Numbers in a dense block that a few rows are written into: 16 MiB, and on a GPU, where each block is a wait, 512 MiB.
FILLED = {"cpu": 2**22, "cuda": 2**27}


def checked(blocks: Iterable[AnyBlock], job: ProjectionJob) -> Iterator[Block | RowBlock]:
    """The same blocks, detached, factors multiplied out, each refused with ValueError (see :meth:`Projector.project`) if it
    does not fit."""
    batch = None
    for block in blocks:
        one = _detached(block)
        if one.name not in job.sizes:
            raise ValueError(f"a gradient block names {one.name!r}, which is no parameter of this projection")
        values = one.gradient if isinstance(one, Block) else one.values
        if values.ndim != 2 or not values.dtype.is_floating_point:
            raise ValueError(f"{one.name}: a block is a (B, d) floating tensor, not {_kind_of(values)}")
        if batch is not None and one.batch != batch:
            raise ValueError(f"{one.name}: {one.batch} samples in this block, {batch} in the one before")
        if values.device.type != job.device.type:
            raise ValueError(f"{one.name}: gradient on {values.device}, projector on {job.device}")
        _check_place(one, job.sizes[one.name])
        batch = one.batch
        yield one
    if batch is None:
        raise ValueError("there is no gradient block to project")


def dense(blocks: Iterable[AnyBlock], job: ProjectionJob) -> Iterator[Block]:
    """The same gradients, checked, with a :class:`RowBlock` written into dense blocks of zeros."""
    for block in checked(blocks, job):
        if isinstance(block, Block):
            yield block
        else:
            yield from filled(block, job.sizes[block.name])


def filled(block: RowBlock, size: int, numbers: int | None = None) -> Iterator[Block]:
    """Dense blocks that hold the rows of ``block``: runs of rows on a fixed grid, those that nobody reaches left out.

    Args:
        size: coordinates of the parameter.
        numbers: entries of a block at the most (at least one row); None: as many as suit the device.
    """
    width = block.values.shape[1]
    numbers = FILLED[block.values.device.type] if numbers is None else numbers
    height = max(numbers // max(block.batch * width, 1), 1)
    place = block.row // height
    for run in torch.unique(place).tolist():
        chosen = place == run
        rows = min(height, size // width - run * height)
        gradient = block.values.new_zeros(block.batch, rows, width)
        gradient[block.sample[chosen], block.row[chosen] - run * height] = block.values[chosen]
        yield Block(block.name, gradient.flatten(1), run * height * width)
    if len(block.row) == 0:
        yield Block(block.name, block.values.new_zeros(block.batch, 0))


def _detached(block: AnyBlock) -> Block | RowBlock:
    block = block.dense() if isinstance(block, FactorBlock) else block
    if isinstance(block, Block):
        return Block(block.name, block.gradient.detach(), block.offset)
    return RowBlock(block.name, block.batch, block.sample, block.row, block.values.detach())


def _check_place(block: Block | RowBlock, size: int) -> None:
    """Refuse coordinates that the parameter does not have."""
    if isinstance(block, Block):
        end = block.offset + block.gradient.shape[1]
        if block.offset < 0 or end > size:
            raise ValueError(f"{block.name}: coordinates [{block.offset}, {end}) of {size}")
        return
    if not len(block.sample) == len(block.row) == len(block.values) or block.values.shape[1] == 0:
        raise ValueError(f"{block.name}: {len(block.sample)} samples, {len(block.row)} rows, {_kind_of(block.values)}")
    for what, index, limit in (("sample", block.sample, block.batch), ("row", block.row, size // block.values.shape[1])):
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < limit:
            raise ValueError(f"{block.name}: {what} {int(index.max())} of {limit}")


def _kind_of(gradient: torch.Tensor) -> str:
    return f"{tuple(gradient.shape)} {gradient.dtype}"


def pieces(block: Block, length: int) -> Iterator[tuple[int, int]]:
    """The coordinates of ``block``, cut at the multiples of ``length``: half-open ranges inside the parameter."""
    start, end = block.offset, block.offset + block.gradient.shape[1]
    while start < end:
        stop = min((start // length + 1) * length, end)
        yield start, stop
        start = stop
