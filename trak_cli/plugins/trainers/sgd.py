"""A trainer with SGD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trak_cli.errors import Problem
from trak_cli.plugins.trainers.contract import Augment
from trak_cli.plugins.trainers.pullbacks import Pullback, pullback_of
from trak_cli.plugins.trainers.step_trainer import State, Step, StepTrainer, at_least


class SGDTrainer(StepTrainer):
    """Stochastic gradient descent with momentum and weight decay; by default, the learning rate decreases linearly to zero.

    Args:
        epochs: passes over the subset.
        batch_size: samples per step; a last batch of a single sample is merged into the one before.
        lr: the largest learning rate.
        momentum: of the gradient.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: L2 penalty.
        schedule: "linear" (to zero), "cosine" (to zero) or "constant".
        warmup_steps: steps in which the learning rate rises linearly.
        clip_grad: the largest norm of the gradient of all parameters together; null: no limit.
        augment: a function that returns an augmented batch, for training only; its random numbers come from the global state of
            PyTorch, NumPy or Python. null: none.
        cache_mb: samples are kept in memory if they need at most this many MiB.

    Raises:
        ConfigError: names all arguments that are out of range.
    """

    optimizer = "sgd"

    def __init__(
        self,
        epochs: int = 15,
        batch_size: int = 64,
        lr: float = 0.05,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 5e-4,
        schedule: str = "linear",
        warmup_steps: int = 0,
        clip_grad: float | None = None,
        augment: Augment | None = None,
        cache_mb: int = 512,
    ) -> None:
        problems = at_least(momentum=(momentum, 0), weight_decay=(weight_decay, 0))
        if nesterov and momentum == 0:
            remedy = "set trainer.momentum, or trainer.nesterov=false"
            problems.append(Problem("trainer.nesterov", "true with momentum 0", "a positive momentum", remedy))
        super().__init__(epochs, batch_size, lr, schedule, warmup_steps, clip_grad, augment, cache_mb, problems)
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay

    def initial_state(self, params: Sequence[Tensor]) -> State:
        """ "momentum" of each parameter, zero; nothing without momentum."""
        return {"momentum": [torch.zeros_like(param) for param in params]} if self.momentum else {}

    def update(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: State, step: Step
    ) -> tuple[Sequence[Tensor], State]:
        """The operations of ``torch.optim.SGD``, in its order, so that results agree to the last bit."""
        if self.weight_decay:
            grads = [torch.add(grad, param, alpha=self.weight_decay) for grad, param in zip(grads, params, strict=True)]
        if self.momentum:
            buffers = [(old * self.momentum).add(grad) for old, grad in zip(state["momentum"], grads, strict=True)]
            state = {"momentum": buffers}
            if self.nesterov:
                grads = [torch.add(grad, buffer, alpha=self.momentum) for grad, buffer in zip(grads, buffers, strict=True)]
            else:
                grads = buffers
        return [torch.add(param, grad, alpha=-step.lr) for param, grad in zip(params, grads, strict=True)], state

    @pullback_of(update)
    def _pullback(self, grads: Sequence[Tensor], after: State, step: Step) -> Pullback:
        """The derivative of :meth:`update`, which is linear: it does not depend on the state."""
        del grads, after
        ahead = self.momentum if self.nesterov else 1.0

        def pull(params: Sequence[Tensor], state: Mapping[str, Sequence[Tensor]]) -> list[Tensor]:
            to_grads = []
            for number, param in enumerate(params):
                if self.momentum:
                    buffer = state["momentum"][number].add_(param, alpha=-step.lr * ahead)
                    to_grad = torch.add(buffer, param, alpha=-step.lr) if self.nesterov else buffer.clone()
                    buffer.mul_(self.momentum)
                else:
                    to_grad = param * -step.lr
                if self.weight_decay:
                    param.add_(to_grad, alpha=self.weight_decay)
                to_grads.append(to_grad)
            return to_grads

        return pull
