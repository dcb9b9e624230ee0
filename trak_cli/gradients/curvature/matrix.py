"""The Gauss–Newton matrix of the training loss, G = Σ_i J_iᵀ H_i J_i, which is multiplied by vectors and never formed.

J_i is the Jacobian of the predictions for sample i by the parameters, and H_i the second derivative of the loss by the
predictions (:mod:`trak_cli.gradients.curvature.loss`). H_i couples the classes; of a sequence, every token is a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.gradients.curvature.linearised import Jacobian
from trak_cli.gradients.curvature.loss import Predicting, expand

#: Vectors whose products with G estimate its trace.
PROBES = 8

#: Yields the batches of the training rows, the number of rows of each that count (the others are padding at its end), and the
#: weights of its samples as :func:`~trak_cli.gradients.curvature.loss.expand` takes them.
Batches = Callable[[], Iterable[tuple[Any, int, Tensor | None]]]


class GaussNewton:
    """G of a training set, or of a sample of its rows.

    Args:
        task: gives the predictions.
        jacobian: of the model under the checkpoint.
        batches: the training rows.
        factor: n / m if only m of n rows are read, so that G keeps its size.
        columns: largest number of vectors in one pass through the model.
    """

    def __init__(self, task: Predicting, jacobian: Jacobian, batches: Batches, factor: float, columns: int) -> None:
        self._task, self._jacobian, self._batches = task, jacobian, batches
        self._factor, self._columns = factor, columns

    def __call__(self, vectors: Tensor) -> Tensor:
        """G x for every row x of ``vectors`` (R, p), by one pass over the rows: (R, p)."""
        total = torch.zeros_like(vectors)
        for batch, count, weights in self._batches():
            for start in range(0, len(vectors), self._columns):
                some = slice(start, start + self._columns)
                total[some] += self._of_batch(batch, count, weights, vectors[some])
        return total.mul_(self._factor)

    def _of_batch(self, batch: Any, count: int, weights: Tensor | None, vectors: Tensor) -> Tensor:
        truth: list[Tensor] = []

        def predict(model: nn.Module, batch: Any) -> Tensor:
            values, known = self._task.predictions(model, batch)
            truth[:] = [known.detach()]
            return values

        values, pushed = self._jacobian.times(predict, batch, vectors)
        bent = expand(values, truth[0], weights).curvature(pushed)
        bent[:, count:] = 0
        return self._jacobian.transposed(predict, batch, lambda _: bent)

    def mean_trace(self, rows: int, like: Tensor, seed: int) -> float:
        """What one of ``rows`` training rows adds to the trace of G on average, estimated with random signs (Hutchinson).

        Args:
            like: (R, p), any values, for p, dtype and device.
            seed: of the signs.
        """
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (PROBES, like.shape[1]), generator=generator)
        probes = (2 * signs - 1).to(like)
        return float((probes * self(probes)).double().sum()) / (PROBES * rows)


def row_products(task: Predicting, jacobian: Jacobian, batch: Any, vectors: Tensor, weights: Tensor | None = None) -> Tensor:
    """xᵀ J_iᵀ r_i for every row x of ``vectors`` (R, p) and every sample i of the batch: (R, B).

    J_iᵀ r_i is minus the gradient of the loss of sample i, near the beginning of training. One pass through the model, without
    a gradient of any single sample. ``weights`` as :func:`~trak_cli.gradients.curvature.loss.expand` takes them.
    """
    truth: list[Tensor] = []

    def predict(model: nn.Module, batch: Any) -> Tensor:
        values, known = task.predictions(model, batch)
        truth[:] = [known.detach()]
        return values

    values, pushed = jacobian.times(predict, batch, vectors)
    products = pushed * expand(values, truth[0], weights).residual()
    return products.flatten(2).sum(-1) if values.dim() > 1 else products
