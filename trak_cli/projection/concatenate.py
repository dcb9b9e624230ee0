"""Kind ``none``: the complete gradient, with the parameters concatenated."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import torch

from trak_cli.projection.blocks import dense
from trak_cli.projection.contract import ProjectionJob
from trak_cli.types import AnyBlock


class Concatenator:
    """The identity instead of a random matrix (see :class:`trak_cli.projection.contract.Projector`)."""

    kernel = "concatenate"

    def __init__(self, job: ProjectionJob) -> None:
        self.dim = sum(job.sizes.values())
        self._job = job
        self._starts = dict(zip(job.sizes, accumulate(job.sizes.values(), initial=0), strict=False))

    def project(self, blocks: Iterable[AnyBlock]) -> torch.Tensor:
        """The flat gradients in the order of the parameters: (B, p) float32, or float64 if a block is float64."""
        flat = torch.empty(0)
        for block in dense(blocks, self._job):
            gradient = block.gradient
            if flat.numel() == 0:
                flat = torch.zeros(len(gradient), self.dim, device=gradient.device)
            if gradient.dtype == torch.float64:
                flat = flat.double()
            start = self._starts[block.name] + block.offset
            flat[:, start : start + gradient.shape[1]] += gradient
        return flat
