"""The trainer for transformers: AdamW."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trak_cli.errors import Problem
from trak_cli.plugins.trainers.contract import Augment
from trak_cli.plugins.trainers.pullbacks import Pullback, pullback_of
from trak_cli.plugins.trainers.step_trainer import State, Step, StepTrainer, at_least


class AdamWTrainer(StepTrainer):
    """AdamW; by default, the learning rate decreases linearly to zero. Frozen parameters are not changed.

    Args:
        epochs: passes over the subset.
        batch_size: samples per step; a last batch of a single sample is merged into the one before.
        lr: the largest learning rate.
        betas: decay rates of the means of the gradient and of its square.
        eps: added to the root of the mean square.
        weight_decay: decoupled weight decay on all parameters.
        schedule: "linear" (to zero), "cosine" (to zero) or "constant".
        warmup_steps: steps in which the learning rate rises linearly.
        clip_grad: the largest norm of the gradient of all parameters together; null: no limit.
        augment: a function that returns an augmented batch, for training only; its random numbers come from the global state of
            PyTorch, NumPy or Python. null: none.
        cache_mb: samples are kept in memory if they need at most this many MiB.

    Raises:
        ConfigError: names all arguments that are out of range.
    """

    optimizer = "adam"

    def __init__(
        self,
        epochs: int = 10,
        batch_size: int = 32,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        schedule: str = "linear",
        warmup_steps: int = 0,
        clip_grad: float | None = None,
        augment: Augment | None = None,
        cache_mb: int = 512,
    ) -> None:
        problems = at_least(weight_decay=(weight_decay, 0), eps=(eps, 0))
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            remedy = "choose two such numbers, for example [0.9, 0.999]"
            problems.append(Problem("trainer.betas", str(list(betas)), "two numbers in [0, 1)", remedy))
        super().__init__(epochs, batch_size, lr, schedule, warmup_steps, clip_grad, augment, cache_mb, problems)
        self.betas, self.eps, self.weight_decay = tuple(betas), eps, weight_decay

    def initial_state(self, params: Sequence[Tensor]) -> State:
        """ "mean" of the gradient and "square", the mean of its square, of each parameter; zero."""
        return {name: [torch.zeros_like(param) for param in params] for name in ("mean", "square")}

    def update(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: State, step: Step
    ) -> tuple[Sequence[Tensor], State]:
        """The operations of ``torch.optim.AdamW``, in its order, so that results agree to the last bit."""
        first, second = self.betas
        corrections = 1 - first ** (step.index + 1), (1 - second ** (step.index + 1)) ** 0.5
        new, means, squares = [], [], []
        for param, grad, old_mean, old_square in zip(params, grads, state["mean"], state["square"], strict=True):
            mean = torch.lerp(old_mean, grad, 1 - first)
            square = (old_square * second).addcmul(grad, grad, value=1 - second)
            denominator = (_root(square) / corrections[1]).add(self.eps)
            decayed = param * (1 - step.lr * self.weight_decay)
            new.append(torch.addcdiv(decayed, mean, denominator, value=-step.lr / corrections[0]))
            means.append(mean)
            squares.append(square)
        return new, {"mean": means, "square": squares}

    @pullback_of(update)
    def _pullback(self, grads: Sequence[Tensor], after: State, step: Step) -> Pullback:
        """The derivative of :meth:`update`: p' − p (1 − lr λ) = −(lr / c₁) m' / d, with d = √v' / c₂ + ε.

        Its derivative in m' is −(lr / c₁) / d, and in v' it is (lr / c₁) m' / (2 c₂ √v' d²), taken as 0 where v' is.
        """
        first, second = self.betas
        corrections = 1 - first ** (step.index + 1), (1 - second ** (step.index + 1)) ** 0.5
        length, decay = step.lr / corrections[0], 1 - step.lr * self.weight_decay
        by_mean, by_square = [], []
        for mean, square in zip(after["mean"], after["square"], strict=True):
            root = square.sqrt()
            slope = (root / corrections[1]).add_(self.eps).reciprocal_()
            curve = (slope * mean).mul_(slope).div_(root).mul_(0.5 * length / corrections[1])
            by_mean.append(slope.mul_(-length))
            by_square.append(curve.masked_fill_(root == 0, 0.0))

        def pull(params: Sequence[Tensor], state: Mapping[str, Sequence[Tensor]]) -> list[Tensor]:
            to_grads = []
            for number, (param, grad) in enumerate(zip(params, grads, strict=True)):
                mean = state["mean"][number].addcmul_(param, by_mean[number])
                square = state["square"][number].addcmul_(param, by_square[number])
                to_grads.append((grad * square).mul_(2 * (1 - second)).add_(mean, alpha=1 - first))
                mean.mul_(first)
                square.mul_(second)
                param.mul_(decay)
            return to_grads

        return pull


def _root(square: Tensor) -> Tensor:
    """√v, whose derivative at v = 0 is 0, not infinite: v is zero only where all gradients were zero so far."""
    if not square.requires_grad:
        return square.sqrt()
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)
