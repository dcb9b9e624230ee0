"""The loss of a batch as a function of the model's predictions, near the beginning of training.

With predictions u (logits) of one sample and a in [0, 1], the predictions a u lie on the way from an untrained model, which
predicts the same for every sample, to the checkpoint. Over a uniform in [0, ``WINDOW``] are averaged

    r = mean_a [ −∂ℓ/∂u at a u ]      and      H = mean_a [ ∂²ℓ/∂u² at a u ].

At the checkpoint itself (a = 1), r and H of a sample that the model has learned are almost zero, although the sample shaped the
model while it was being learned. For the squared loss, H = I, and r is the residual of the checkpoint.

With only two classes, a ≤ ½ makes these means nearly equal for all samples. Where weights of samples are known from a simulated
training, r and H of a sample are multiplied by w / mean_a (1 − p_y), with p_y the probability of its label, so that r has the
size w at the label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trak_cli.batches import IGNORED

#: The part of the way from an untrained model to the checkpoint over which r and H are averaged.
WINDOW = 0.5

#: Places at which the average is computed: the midpoints of as many equal parts of the window.
_PLACES = 4


class Predicting(Protocol):
    """The part of a task that the curvature needs."""

    def predictions(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Predictions and what is true of them; see :meth:`trak_cli.tasks.Task.predictions`."""


@dataclass(frozen=True)
class QuadraticLoss:
    """The loss of a batch, expanded in its predictions.

    Attributes:
        residual: returns r, in the shape of the predictions.
        curvature: H v, for v (…, *shape of the predictions).
    """

    residual: Callable[[], Tensor]
    curvature: Callable[[Tensor], Tensor]


def expand(predictions: Tensor, truth: Tensor, weights: Tensor | None = None) -> QuadraticLoss:
    """The expansion of the loss of a batch.

    Args:
        predictions: (B, T, C) logits, (B, T) log-odds of what is true, or (B,) predictions with a squared loss.
        truth: (B, T) labels (int64, −100 where nothing is predicted), (B, T) bool (False where nothing is predicted), or
            (B,) residuals.
        weights: (B,) w of every sample; None for no factors. A squared loss has none.
    """
    if predictions.dim() == 3:
        return _cross_entropy(predictions, truth, weights)
    if truth.dtype == torch.bool:
        return _log_loss(predictions, truth, weights)
    return QuadraticLoss(lambda: truth, lambda vectors: vectors)


def automatic_ridge(predictions: Tensor, truth: Tensor) -> float:
    """λ in units of the mean trace that a sample adds to the curvature; by experiment.

    2 for a squared loss, 3 for two classes or one log-odds, else 1; and five predictions, if samples have more than five
    (tokens).
    """
    if predictions.dim() == 1:
        return 2.0
    counts = truth if truth.dtype == torch.bool else truth != IGNORED
    mean = float(counts.sum()) / len(counts)
    if mean <= 1 and (predictions.dim() == 2 or predictions.shape[-1] == 2):
        return 3.0
    return min(1.0, 5.0 / max(1.0, mean))


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> QuadraticLoss:
    counts = (labels != IGNORED).unsqueeze(-1).to(logits.dtype)
    label = labels.clamp(min=0).unsqueeze(-1)

    def others() -> Tensor:
        """mean_a p of the other classes, and 0 for the label: 1 − p_y is their sum, exact even where p_y is almost 1."""
        total = torch.zeros_like(logits)
        for place in places():
            total = total + torch.softmax(place * logits, -1)
        return total.scatter(-1, label, 0.0) * (counts / _PLACES)

    if weights is not None:
        counts = counts * _factors(others().sum(-1), weights).unsqueeze(-1)

    def residual() -> Tensor:
        mean = others()
        return (-mean).scatter(-1, label, mean.sum(-1, keepdim=True))

    def curvature(vectors: Tensor) -> Tensor:
        total = torch.zeros_like(vectors)
        if weights is not None:  # H 1 = 0; with 0 at the label, sums do not cancel
            vectors = vectors - torch.take_along_dim(vectors, label[(None,) * (vectors.dim() - 3)], -1)
        for place in places():
            probability = torch.softmax(place * logits, -1)
            weighted = probability * vectors
            total += weighted - probability * weighted.sum(-1, keepdim=True)
        return total.mul_(counts / _PLACES)

    return QuadraticLoss(residual, curvature)


def _log_loss(odds: Tensor, counts: Tensor, weights: Tensor | None) -> QuadraticLoss:
    mask = counts.to(odds.dtype)
    several = torch.stack([torch.sigmoid(-place * odds) for place in places()])
    if weights is not None:
        mask = mask * _factors(several.mean(0) * mask, weights)
    second = (several * (1 - several)).mean(0) * mask
    return QuadraticLoss(lambda: several.mean(0) * mask, lambda vectors: vectors * second)


def _factors(residuals: Tensor, weights: Tensor) -> Tensor:
    """w / Σ_t mean_a (1 − p_y), (B, 1), from the means of every prediction, (B, T)."""
    total = residuals.sum(-1, keepdim=True)
    return weights.to(total).unsqueeze(-1) / total.clamp(min=torch.finfo(total.dtype).tiny)


def places() -> Iterator[float]:
    """The values of a over which the average is computed."""
    for number in range(_PLACES):
        yield WINDOW * (number + 0.5) / _PLACES
