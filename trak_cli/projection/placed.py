"""Projection of gradients that lie on several devices: each block where it is, and the sums on one device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

import torch

from trak_cli.projection.contract import Projector
from trak_cli.types import AnyBlock, Block, FactorBlock


class PlacedProjector:
    """Projects runs of neighbouring blocks that lie on one device by a projector for it (see :class:`Projector`).

    The sum over the devices is rounded once more, so features are those of one device up to rounding.

    Args:
        build: makes the projector for a device.
        home: where the features go.
    """

    def __init__(self, build: Callable[[torch.device], Projector], home: torch.device) -> None:
        self._build = build
        self._home = home
        self._projectors = {home: build(home)}
        self.dim = self._projectors[home].dim
        self.kernel = self._projectors[home].kernel

    def project(self, blocks: Iterable[AnyBlock]) -> torch.Tensor:
        """Σ_blocks G_block · P_block: (B, dim) float32, on ``home``.

        Raises:
            ValueError: there is no block, or one does not fit.
        """
        total: torch.Tensor | None = None
        for device, run in groupby(blocks, _device_of):
            if device not in self._projectors:
                self._projectors[device] = self._build(device)
            features = self._projectors[device].project(run).to(self._home)
            total = features if total is None else total + features
        if total is None:
            raise ValueError("there is no gradient block to project")
        return total


def _device_of(block: AnyBlock) -> torch.device:
    if isinstance(block, Block):
        return block.gradient.device
    return (block.left if isinstance(block, FactorBlock) else block.values).device
