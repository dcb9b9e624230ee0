"""Gradients for models trained by Adam: every coordinate is divided by the fourth root of its second moment.

To first order, a step of gradient descent on sample i changes the output of sample j by g_iᵀ g_j. Adam divides each coordinate
of its step by √v, where v is the second moment of the gradient, so that the change is g_iᵀ diag(v)^(-1/2) g_j. With
diag(v)^(-1/4) g instead of g, everything derived for gradient descent therefore holds for Adam.

v comes from the state of the optimizer in the checkpoint (:func:`scales_of_moments`). If there is none, it is the second
moment of ∇f over training samples (:class:`SecondMoments`). Such estimates are stored by rows and columns,
v_ij = r_i c_j / mean, as in Adafactor (Shazeer and Stern 2018, arXiv 1804.04235, section 3): m + n numbers for a matrix instead
of m n, and outer products stay outer products.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trak_cli.gradients.contract import Engine, PerSample, as_real
from trak_cli.types import AnyBlock, Block, FactorBlock, RowBlock

#: Version of the definition of the scales; part of the fingerprint of a store.
SCALES_VERSION = 1

#: Smallest v, relative to its mean over all coordinates. Smaller values belong to gradients that are zero up to rounding (the
#: bias of the keys in an attention layer), which would otherwise get the largest scales.
LEAST = 1e-10


@dataclass(frozen=True)
class Scale:
    """The scale of the gradient of one parameter: entry (i, j), as a matrix, is multiplied by rows[i] · columns[j].

    Attributes:
        rows: (m,) float32, m the first dimension of the parameter (1 for a scalar).
        columns: (n,) float32, n the product of the others.
        entries: (m, n) float32, one scale for each entry, used instead; None for gradients that stay outer products.
    """

    rows: Tensor
    columns: Tensor
    entries: Tensor | None = None

    def part(self, offset: int, count: int) -> Tensor:
        """The scales of ``count`` coordinates of the flattened parameter from ``offset`` on, (count,)."""
        if self.entries is not None:
            return self.entries.flatten()[offset : offset + count]
        width = len(self.columns)
        if count == len(self.rows) * width:
            return torch.outer(self.rows, self.columns).flatten()
        places = torch.arange(offset, offset + count, device=self.rows.device)
        return self.rows[places // width] * self.columns[places % width]

    def of_rows(self, rows: Tensor) -> Tensor:
        """The scales of some rows, (len(rows), n)."""
        return torch.outer(self.rows[rows], self.columns) if self.entries is None else self.entries[rows]

    def to(self, device: torch.device) -> Scale:
        """The same on a device."""
        entries = None if self.entries is None else self.entries.to(device)
        return Scale(self.rows.to(device), self.columns.to(device), entries)


def matrix_shape(parameter: Tensor) -> tuple[int, int]:
    """(m, n) of a parameter as a matrix: its first dimension, and the product of the others; pairs if it is complex."""
    parameter = as_real(parameter)
    m = parameter.shape[0] if parameter.dim() else 1
    return m, parameter.shape[1:].numel()


#: Canonical parameter name -> scale.
Scales = Mapping[str, Scale]


class ScaledEngine:
    """An engine whose gradients are multiplied by scales."""

    def __init__(self, engine: Engine, scales: Scales) -> None:
        self.name = engine.name
        self._engine = engine
        self._scales = scales

    def per_sample(self, batch: Any) -> PerSample:
        """See :class:`~trak_cli.gradients.contract.Engine`."""
        result = self._engine.per_sample(batch)
        return replace(result, blocks=self._scaled(result.blocks))

    def _scaled(self, blocks: Iterator[AnyBlock]) -> Iterator[AnyBlock]:
        for block in blocks:
            yield scaled(block, self._scales[block.name])


def scaled(block: AnyBlock, scale: Scale) -> AnyBlock:
    """A block of gradients multiplied by the scale of its parameter, in the block's dtype."""
    if isinstance(block, Block):
        part = scale.to(block.gradient.device).part(block.offset, block.gradient.shape[1])
        return replace(block, gradient=block.gradient * part.to(block.gradient.dtype))
    if isinstance(block, FactorBlock):
        left, right = scale.rows.to(block.left), scale.columns.to(block.right)
        return replace(block, left=block.left * left, right=block.right * right)
    return replace(block, values=block.values * scale.to(block.values.device).of_rows(block.row).to(block.values.dtype))


def scales_of_moments(
    parameters: Mapping[str, Tensor], moments: Callable[[str], Tensor | None], factored: Collection[str]
) -> dict[str, Scale]:
    """v^(-1/4) of every parameter, relative to the mean of v over all coordinates, so that gradients keep their size.

    Args:
        parameters: canonical name -> parameter.
        moments: v of a parameter by its name, in its shape, float64; None for a parameter without, whose scale is 1.
        factored: parameters whose scale must be a product of one of the row and one of the column.
    """
    total, count = 0.0, 0
    for name in parameters:
        if (second := moments(name)) is not None:
            total, count = total + float(second.sum()), count + second.numel()
    scales = {}
    for name, parameter in parameters.items():
        (m, n), second = matrix_shape(parameter), moments(name)
        if second is None or not second.numel() or not float(second.sum()) > 0:
            scales[name] = Scale(torch.ones(m), torch.ones(n))
            continue
        matrix = second.view(m, n) * (count / total)
        rows, columns = matrix.mean(1), matrix.mean(0) / matrix.mean()
        entries = None if name in factored else _fourth_root(matrix)
        scales[name] = Scale(_fourth_root(rows), _fourth_root(columns), entries)
    return scales


def _fourth_root(second: Tensor) -> Tensor:
    return second.clamp(min=LEAST).pow(-0.25).float()


class OverlappingBlocksError(Exception):
    """Two blocks of one microbatch have the same coordinates."""


class SecondMoments:
    """Sums squared gradients by the rows and columns of every parameter.

    Memory: m + n float64 numbers per parameter, and the squares of one block.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        """``parameters``: canonical name -> parameter."""
        self._shapes = {name: matrix_shape(parameter) for name, parameter in parameters.items()}
        self._rows = {name: torch.zeros(m, dtype=torch.float64) for name, (m, _) in self._shapes.items()}
        self._columns = {name: torch.zeros(n, dtype=torch.float64) for name, (_, n) in self._shapes.items()}
        self._samples = 0

    def add(self, gradients: PerSample) -> None:
        """Add the gradients of a microbatch, in blocks that do not overlap.

        Raises:
            OverlappingBlocksError: two blocks have the same coordinates (a weight used twice), and the square of their sum is
                not the sum of their squares. Start again with the loop engine.
        """
        taken: dict[str, list[tuple[int, int]]] = {}
        for block in gradients.blocks:
            m, n = self._shapes[block.name]
            if isinstance(block, RowBlock):
                self._claim(taken, block.name, 0, m * n)
                squares = block.values.double().square()
                self._rows[block.name].index_add_(0, block.row.cpu(), squares.sum(1).cpu())
                self._columns[block.name] += squares.sum(0).cpu()
                continue
            dense = block.dense() if isinstance(block, FactorBlock) else block
            count = dense.gradient.shape[1]
            self._claim(taken, block.name, dense.offset, dense.offset + count)
            squares = dense.gradient.float().square().sum(0).cpu().double()
            if n and dense.offset % n == 0 and count % n == 0:  # whole rows
                first, matrix = dense.offset // n, squares.view(-1, n)
                self._rows[block.name][first : first + len(matrix)] += matrix.sum(1)
                self._columns[block.name] += matrix.sum(0)
                continue
            places = torch.arange(dense.offset, dense.offset + count)
            self._rows[block.name].index_add_(0, places // n, squares)
            self._columns[block.name].index_add_(0, places % n, squares)
        self._samples += len(gradients.outputs)

    @staticmethod
    def _claim(taken: dict[str, list[tuple[int, int]]], name: str, start: int, stop: int) -> None:
        """Record that a microbatch has a block for the coordinates [start, stop) of a parameter."""
        before = taken.setdefault(name, [])
        if any(start < end and begin < stop for begin, end in before):
            raise OverlappingBlocksError(name)
        before.append((start, stop))

    def scales(self) -> dict[str, Scale]:
        """v^(-1/4) of every parameter, relative to the mean of v over all coordinates, so that gradients keep their size.

        Each row and column counts one additional sample with the parameter's mean square, which keeps the scale of coordinates
        that no sample reached finite (words that do not occur). A parameter without any gradient has the scale 1.
        """
        count = max(self._samples, 1)
        total = sum(float(squares.sum()) for squares in self._rows.values())
        overall = total / (count * sum(m * n for m, n in self._shapes.values()))
        return {name: self._scale(name, count, overall) for name in self._shapes}

    def _scale(self, name: str, count: int, overall: float) -> Scale:
        rows, columns = self._rows[name], self._columns[name]
        mean = float(rows.sum()) / (count * len(rows) * len(columns)) if len(rows) and len(columns) else 0.0
        if not mean > 0:
            return Scale(torch.ones_like(rows).float(), torch.ones_like(columns).float())
        more = mean / count
        by_row = rows / (count * len(columns)) + more
        by_column = columns / (count * len(rows)) + more
        of_all = mean + more
        return Scale(_fourth_root(by_row / overall), (by_column / of_all).pow(-0.25).float())
