"""What a projector promises, and what it is built from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block


class Projector(Protocol):
    """Multiplies per-sample gradients by the random matrix of one checkpoint (TRAK, section 3, step 2).

    Attributes:
        kernel: which code multiplies, as the log and the shard tell it.
        dim: columns of the answer.
    """

    kernel: str
    dim: int

    def project(self, blocks: Iterable[Block]) -> torch.Tensor:
        """Σ_blocks G_block · P_block, with no factor 1/√p.

        Args:
            blocks: at least one; each parameter tensor whole or in parts, in any order, all with the same batch B. They
                are taken one at a time, and none is kept. A coordinate that no block brings counts as zero.

        Returns:
            (B, dim) float32; for kind ``none`` float64 when a gradient is float64.

        Raises:
            ValueError: no block came, or one that does not fit the parameters or the batch.
        """


@dataclass(frozen=True)
class ProjectionJob:
    """All that determines a projector.

    Attributes:
        spec: which random matrix.
        checkpoint: SHA-256 of the checkpoint file, 64 hexadecimal digits.
        sizes: canonical parameter name -> number of elements, in the order of ``named_parameters``.
        device: where the gradients are.
        threads: how many threads a CPU kernel may use.
    """

    spec: ProjectionSpec
    checkpoint: str
    sizes: Mapping[str, int]
    device: torch.device
    threads: int


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
