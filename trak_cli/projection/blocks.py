"""Gradient blocks on their way through a projector: refused when they do not fit, and cut on an absolute grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from trak_cli.projection.contract import ProjectionJob
from trak_cli.types import Block


def checked(blocks: Iterable[Block], job: ProjectionJob) -> Iterator[Block]:
    """The same blocks, detached, each refused with ValueError (see :meth:`Projector.project`) if it does not fit."""
    batch = None
    for block in blocks:
        gradient = block.gradient.detach()
        if block.name not in job.sizes:
            raise ValueError(f"a gradient block names {block.name!r}, which is no parameter of this projection")
        if gradient.ndim != 2 or not gradient.dtype.is_floating_point:
            raise ValueError(f"{block.name}: a block is a (B, d) floating tensor, not {_kind_of(gradient)}")
        if batch is not None and len(gradient) != batch:
            raise ValueError(f"{block.name}: {len(gradient)} samples in this block, {batch} in the one before")
        if gradient.device.type != job.device.type:
            raise ValueError(f"{block.name}: gradient on {gradient.device}, projector on {job.device}")
        if block.offset < 0 or block.offset + gradient.shape[1] > job.sizes[block.name]:
            end = block.offset + gradient.shape[1]
            raise ValueError(f"{block.name}: coordinates [{block.offset}, {end}) of {job.sizes[block.name]}")
        batch = len(gradient)
        yield Block(block.name, gradient, block.offset)
    if batch is None:
        raise ValueError("there is no gradient block to project")


def _kind_of(gradient: torch.Tensor) -> str:
    return f"{tuple(gradient.shape)} {gradient.dtype}"


def pieces(block: Block, length: int) -> Iterator[tuple[int, int]]:
    """The coordinates of ``block``, cut at the multiples of ``length``: half-open ranges inside the parameter."""
    start, end = block.offset, block.offset + block.gradient.shape[1]
    while start < end:
        stop = min((start // length + 1) * length, end)
        yield start, stop
        start = stop
