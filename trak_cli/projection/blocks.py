"""Gradient blocks in a projector: validation, conversion to dense blocks, and cutting on an absolute grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from trak_cli.plurals import counted
from trak_cli.projection.contract import ProjectionJob
from trak_cli.types import AnyBlock, Block, FactorBlock, RowBlock

#: Numbers in a dense block that rows are written into: 16 MiB, and 512 MiB on a GPU, where each block costs a wait.
FILLED = {"cpu": 2**22, "cuda": 2**27}


def checked(
    blocks: Iterable[AnyBlock], job: ProjectionJob, reads: Callable[[FactorBlock], bool] = lambda _: False
) -> Iterator[AnyBlock]:
    """The same blocks, detached, and with factors multiplied out unless ``reads`` accepts them.

    Raises:
        ValueError: there is no block, or one does not fit (see :meth:`Projector.project`).
    """
    batch = None
    for block in blocks:
        if block.name not in job.sizes:
            raise ValueError(f"a gradient block names {block.name!r}, which is no parameter of this projection")
        if batch is not None and block.batch != batch:
            raise ValueError(f"{block.name}: {counted(block.batch, 'sample')} in this block, {batch} in the previous one")
        batch = block.batch
        if isinstance(block, FactorBlock):
            factors = FactorBlock(block.name, block.left.detach(), block.right.detach())
            _check_factors(factors, job)
            yield from [factors] if reads(factors) else multiplied(factors)
            continue
        block = _detached(block)
        values = block.gradient if isinstance(block, Block) else block.values
        if values.ndim != 2 or not values.dtype.is_floating_point:
            raise ValueError(f"{block.name}: a block is a (B, d) floating tensor, not {_kind_of(values)}")
        _check_device(block.name, values, job)
        _check_place(block, job.sizes[block.name])
        yield block
    if batch is None:
        raise ValueError("there is no gradient block to project")


def multiplied(block: FactorBlock) -> Iterator[Block]:
    """The same gradients as dense blocks, each of some rows of the weight."""
    rows, width = block.left.shape[2], block.right.shape[2]
    height = max(FILLED[block.left.device.type] // max(block.batch * width, 1), 1)
    for start in range(0, rows, height):
        gradient = block.left[:, :, start : start + height].transpose(1, 2).bmm(block.right)
        yield Block(block.name, gradient.flatten(1), start * width)


def dense(blocks: Iterable[AnyBlock], job: ProjectionJob) -> Iterator[Block]:
    """The same gradients, checked, with a :class:`RowBlock` written into dense blocks of zeros."""
    for block in checked(blocks, job):
        if isinstance(block, RowBlock):
            yield from filled(block, job.sizes[block.name])
        else:
            assert isinstance(block, Block)
            yield block


def filled(block: RowBlock, size: int, numbers: int | None = None) -> Iterator[Block]:
    """Dense blocks that hold the rows of ``block``: runs of rows on a fixed grid, without runs that have no row.

    Args:
        size: number of coordinates of the parameter.
        numbers: the most entries of a block (at least one row); None chooses by device.
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


def _detached(block: Block | RowBlock) -> Block | RowBlock:
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
        raise ValueError(
            f"{block.name}: {counted(len(block.sample), 'sample')}, {counted(len(block.row), 'row')}, {_kind_of(block.values)}"
        )
    for what, index, limit in (("sample", block.sample, block.batch), ("row", block.row, size // block.values.shape[1])):
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < limit:
            raise ValueError(f"{block.name}: {what} {int(index.max())} of {limit}")


def _check_factors(block: FactorBlock, job: ProjectionJob) -> None:
    """Refuse factors whose product is not the gradient of the complete parameter."""
    left, right = block.left, block.right
    fits = left.ndim == right.ndim == 3 and left.shape[:2] == right.shape[:2] and left.dtype == right.dtype
    if not fits or not left.dtype.is_floating_point or left.shape[2] * right.shape[2] != job.sizes[block.name]:
        size = f"{job.sizes[block.name]} coordinates"
        raise ValueError(f"{block.name}: factors {_kind_of(left)} and {_kind_of(right)} of {size}")
    for values in (left, right):
        _check_device(block.name, values, job)


def _check_device(name: str, values: torch.Tensor, job: ProjectionJob) -> None:
    if values.device.type != job.device.type:
        raise ValueError(f"{name}: gradient on {values.device}, projector on {job.device}")


def _kind_of(gradient: torch.Tensor) -> str:
    return f"{tuple(gradient.shape)} {gradient.dtype}"


def pieces(block: Block, length: int) -> Iterator[tuple[int, int]]:
    """The coordinates of ``block``, cut at the multiples of ``length``: half-open ranges inside the parameter."""
    start, end = block.offset, block.offset + block.gradient.shape[1]
    while start < end:
        stop = min((start // length + 1) * length, end)
        yield start, stop
        start = stop
