"""The systems (G + λI) x = t of one checkpoint, and the products xᵀ J_iᵀ r_i of their solutions with the training rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.curvature.choice import choose_jacobian
from trak_cli.gradients.curvature.conjugate_gradients import Operator, Stopping, solve
from trak_cli.gradients.curvature.loss import automatic_ridge
from trak_cli.gradients.curvature.matrix import GaussNewton, row_products
from trak_cli.gradients.curvature.preconditioner import LowRank
from trak_cli.gradients.transforms.adam import Scales
from trak_cli.plurals import counted
from trak_cli.stages.featurizing.setup import FeatureSetup
from trak_cli.stages.inputs.split import Split
from trak_cli.stages.refining.passes import SampleBatch, SamplePasses
from trak_cli.stages.refining.settings import Settings
from trak_cli.types import Float32, Float64, Rows, evenly_spaced

#: Samples whose predictions are counted for the automatic ridge.
_COUNTED = 16

#: Seconds between two messages on a block.
_SECONDS = 20.0


@dataclass(frozen=True)
class Refined:
    """Of one block of systems under one checkpoint.

    Attributes:
        products: (R, n) float32, xᵀ J_iᵀ r_i; NaN where a training row was not wanted.
        lengths: (R,) float64, (tᵀ x)^(1/2).
        ridge: (1,) float64, λ.
        residuals, iterations: (R,), as in :class:`~trak_cli.gradients.curvature.conjugate_gradients.Solution`.
    """

    products: Float32
    lengths: Float64
    ridge: Float64
    residuals: Float64
    iterations: Float64


class Systems:
    """The systems under the weights that are in the model.

    Args:
        splits: the training set and the target split.
        scales: of the gradients, for models trained by Adam; None for none.
        combinations: directions of the preconditioner, as factors of the gradients of training rows; None for random ones.
        weights: (n,) of the training rows; None for none.
    """

    def __init__(
        self,
        setup: FeatureSetup,
        settings: Settings,
        splits: tuple[Split, Split],
        scales: Scales | None,
        combinations: Mapping[int, Float32] | None,
        weights: Float32 | None,
    ) -> None:
        self._setup, self._settings, self._weights = setup, settings, weights
        train, self._targets = splits
        self._train = train
        parameters = setup.selected
        flat = None if scales is None else flattened(scales, parameters)
        probe = train.take(range(min(2, train.rows)))
        self._jacobian = choose_jacobian(setup.model, setup.task, parameters, flat, probe)
        self._columns = settings.columns
        rows = settings.curvature_rows.tolist()
        chosen = SamplePasses(train, None if len(rows) == train.rows else rows, settings.microbatch)
        self._curvature = GaussNewton(
            setup.task,
            self._jacobian,
            lambda: ((item.batch, len(item.rows), self._weights_of(item)) for item in chosen),
            train.rows / len(rows),
            self._columns,
        )
        wide = torch.float64 if all(value.dtype == torch.float64 for value in parameters.values()) else torch.float32
        self._zeros = torch.zeros(1, setup.parameters, dtype=wide, device=setup.device)
        unit = self._curvature.mean_trace(train.rows, self._zeros, seed=0)
        if not unit > 0:
            found = f"a curvature with the mean trace {unit:g} per training sample"
            raise InputError(
                Problem("model", found, "a finite curvature above 0", "use a checkpoint that is not at a constant f")
            )
        given = settings.refine.ridge
        self.ridge = unit * (self._automatic_ridge() if given is None else given)
        self._precondition: Operator = self._preconditioner(combinations)

    @property
    def vectorised(self) -> bool:
        """Whether several vectors go through the model at once."""
        return self._jacobian.vectorised

    def _weights_of(self, item: SampleBatch) -> Tensor | None:
        """The weights of the samples of a batch, (B,), with padding."""
        if self._weights is None:
            return None
        rows = item.rows + item.rows[-1:] * (batch_size(item.batch) - len(item.rows))
        return torch.from_numpy(self._weights[rows]).to(self._setup.device)

    def _automatic_ridge(self) -> float:
        some = self._train.take(evenly_spaced(self._train.rows, _COUNTED).tolist())
        with torch.no_grad():
            return automatic_ridge(*self._setup.task.predictions(self._setup.model, some))

    def _preconditioner(self, combinations: Mapping[int, Float32] | None) -> Operator:
        if not self._settings.rank:
            return lambda rows: rows
        if combinations is not None:
            return LowRank(self._curvature, self._lifted(combinations), self.ridge)
        shape = (self._settings.rank, self._zeros.shape[1])
        directions = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        return LowRank(self._curvature, directions.to(self._zeros), self.ridge)

    def _lifted(self, combinations: Mapping[int, Float32]) -> Tensor:
        """Σ_i c_i ∇f_i for every direction, (r, p)."""
        count = len(next(iter(combinations.values())))
        total = self._zeros.repeat(count, 1)
        for item in SamplePasses(self._train, sorted(combinations), self._settings.microbatch):
            factors = torch.from_numpy(np.stack([combinations[row] for row in item.rows], axis=1)).to(self._zeros)
            for start in range(0, count, self._columns):
                some = slice(start, start + self._columns)

                def cotangents(_: Tensor, chosen: Tensor = factors[some]) -> Tensor:
                    return chosen

                total[some] += self._jacobian.transposed(self._output, item.batch, cotangents)
        return total

    def refine(self, block: Rows, wanted: Sequence[int] | None, log: Callable[[str], None]) -> Refined:
        """Solve the systems of one block, and multiply the solutions by the training rows ``wanted`` (None: all).

        Args:
            log: told how many systems are left, at most every ``_SECONDS``.
        """
        refine = self._settings.refine
        right = self._right_hand_sides(block)
        iterations, told = 0, time.monotonic()

        def product(vectors: Tensor) -> Tensor:
            nonlocal iterations, told
            if time.monotonic() > told + _SECONDS:
                log(f"{len(vectors)} of {counted(len(block), 'system')} left after {counted(iterations, 'iteration')}")
                told = time.monotonic()
            iterations += 1
            return self._curvature(vectors)

        stopping = Stopping(refine.tolerance, refine.iterations)
        found = solve(product, self.ridge, right, stopping, self._precondition)
        lengths = (right * found.x).sum(1, dtype=torch.float64).clamp(min=0).sqrt()
        numbers = (np.array(values, np.float64) for values in ([self.ridge], found.residuals, found.iterations))
        return Refined(self._products(found.x, wanted), lengths.cpu().numpy(), *numbers)

    def _products(self, x: Tensor, wanted: Sequence[int] | None) -> Float32:
        products = np.full((len(x), self._train.rows), np.nan, np.float32)
        for item in SamplePasses(self._train, wanted, self._settings.microbatch):
            for start in range(0, len(x), self._columns):
                some = slice(start, start + self._columns)
                found = row_products(self._setup.task, self._jacobian, item.batch, x[some], self._weights_of(item))
                products[some, item.rows] = found[:, : len(item.rows)].float().cpu().numpy()
        return products

    def _right_hand_sides(self, block: Rows) -> Tensor:
        """∇f of the targets of a block, (R, p), or the mean of ∇f over a group, (1, p)."""
        settings = self._settings
        rows = settings.targets if settings.refine.group else settings.targets[block.start : block.stop]
        place = {row: position for position, row in enumerate(rows)}
        right = self._zeros.repeat(len(block), 1)
        for item in SamplePasses(self._targets, sorted(rows), settings.microbatch):
            if settings.refine.group:
                count = len(item.rows)

                def shares(values: Tensor, count: int = count) -> Tensor:
                    first = torch.arange(len(values), device=values.device) < count
                    return (first / len(rows)).to(values)[None]

                right += self._jacobian.transposed(self._output, item.batch, shares)
                continue
            for start in range(0, len(item.rows), self._columns):
                some = list(range(start, min(start + self._columns, len(item.rows))))

                def units(values: Tensor, some: list[int] = some) -> Tensor:
                    return torch.eye(len(values)).to(values)[some]

                found = self._jacobian.transposed(self._output, item.batch, units)
                right[[place[item.rows[position]] for position in some]] = found
        return right

    def _output(self, model: nn.Module, batch: Any) -> Tensor:
        output: Tensor = self._setup.task.output(model, batch)
        return output


def flattened(scales: Scales, parameters: Mapping[str, Tensor]) -> Tensor:
    """The scales of all coordinates, (p,), in the order of ``parameters``."""
    return torch.cat([scales[name].part(0, parameter.numel()) for name, parameter in parameters.items()])
