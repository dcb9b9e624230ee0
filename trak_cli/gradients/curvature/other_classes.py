"""Random combinations of the logits of the other classes, whose gradients estimate their part of the loss's curvature.

The curvature of the cross entropy in the logits z of a sample, with probabilities p and label y, is diag(p) − p pᵀ. It has two
parts: one in the direction of the margin f = log(p_y / (1 − p_y)),

    p_y (1 − p_y) ∇f ∇fᵀ,      and       (1 − p_y) Jᵀ (diag(s) − s sᵀ) J,      s_c = p_c / (1 − p_y) for c ≠ y,

of the other classes among themselves, J = ∂z/∂θ. The features are ∇f. Relative to the first part, the second one is estimated
without the gradient of any single logit: with Gaussian numbers γ_c, made orthogonal to √s and scaled to length √(C − 2),

    o = ∇ Σ_{c≠y} (s_c / p_y)^(1/2) γ_c z_c      has      E[o oᵀ] = Jᵀ (diag(s) − s sᵀ) J / p_y,

with p_y at least 1 / C, so that no sample that the model gets wrong dominates. p is taken near the beginning of training
(:mod:`trak_cli.gradients.curvature.loss`): softmax(a z) with a in [0, ½], at one of four places for each sample. The cost is
one more backward pass per sample.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.gradients.curvature.loss import Predicting, places
from trak_cli.gradients.transforms.token_signs import random_bits

#: Version of the definition of the combinations and residuals; part of the fingerprint of a store.
CLASSES_VERSION = 1

#: Bits of the random numbers.
_BITS = 26


class OtherClasses:
    """The output function Σ_c u_c z_c of the logits z of the other classes, with random u that does not depend on θ.

    A batch is a pair: a batch of the task, and the row numbers of its samples, (B,) int64. ``out_to_loss_grad`` returns
    mean_a (1 − p_y) of each sample instead of q.
    """

    def __init__(self, task: Predicting, sha256: str) -> None:
        """``sha256``: of the checkpoint, in hexadecimal; each checkpoint has its own random numbers."""
        self._task = task
        self._seed = int.from_bytes(bytes.fromhex(sha256)[:8], "little", signed=True)
        self._last: tuple[Any, Tensor] | None = None  # of the last call of output: batch, residuals

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """The combination, (B,), differentiable in the parameters."""
        inner, rows = batch
        logits, right = self._logits(model, inner)
        fixed = logits.detach().double()
        self._last = (batch, _residuals(fixed, right))
        return (logits * self._coefficients(fixed, right, rows).to(logits.dtype)).sum(-1)

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        """mean_a (1 − p_y) of each sample, (B,) float32, in (0, 1)."""
        del output
        last, self._last = self._last, None
        if last is not None and last[0] is batch:
            return last[1]
        logits, right = self._logits(model, batch[0])
        return _residuals(logits.double(), right)

    def _logits(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """(B, C) logits, and (B, C) bool, True at the label."""
        logits, labels = self._task.predictions(model, batch)
        classes = torch.arange(logits.shape[-1], device=logits.device)
        return logits.squeeze(1), classes == labels

    def _coefficients(self, logits: Tensor, right: Tensor, rows: Tensor) -> Tensor:
        """u, (B, C) float64; 0 at the label."""
        classes = logits.shape[-1]
        bits = random_bits(rows.unsqueeze(1), torch.arange(classes + 1, device=rows.device), self._seed)
        scales = torch.tensor(list(places()), dtype=logits.dtype, device=logits.device)
        chosen = torch.arange(len(scales), device=rows.device) == bits[:, -1:] % len(scales)
        scaled = logits * (chosen * scales).sum(-1, keepdim=True)
        own = (torch.softmax(scaled, -1) * right).sum(-1, keepdim=True).clamp(min=1 / classes)
        root = torch.softmax(scaled.masked_fill(right, -torch.inf), -1).sqrt()
        numbers = _gaussian(bits[:, :-1]).masked_fill(right, 0.0)
        across = numbers - root * (root * numbers).sum(-1, keepdim=True)
        length = across.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-30)
        return root * across / length * ((classes - 2) / own).sqrt()


def _residuals(logits: Tensor, right: Tensor) -> Tensor:
    several = [1 - (torch.softmax(place * logits, -1) * right).sum(-1) for place in places()]
    return torch.stack(several).mean(0).float()


def _gaussian(bits: Tensor) -> Tensor:
    """Standard normal numbers, float64, from random int64 (Box and Muller 1958)."""
    radius, angle = ((((bits >> shift) & ((1 << _BITS) - 1)).double() + 0.5) / (1 << _BITS) for shift in (1, 1 + _BITS))
    return (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()
