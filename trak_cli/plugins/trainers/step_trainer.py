"""A trainer that is a sequence of pure steps, which `trak train` runs and `trak unroll` differentiates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.samples import Indexed
from trak_cli.plugins.trainers.contract import AfterEpoch, Augment, Collate, Loss
from trak_cli.plugins.trainers.plan import BatchPlan
from trak_cli.plugins.trainers.schedules import SCHEDULES, factor
from trak_cli.plugins.trainers.step_run import StepRun, TrainingData

#: The state of an optimizer: name -> tensors, usually one for each parameter.
State = Mapping[str, list[Tensor]]


@dataclass(frozen=True)
class Step:
    """The number of a step, from 0 over all epochs; how many steps there are; and the learning rate of this one."""

    index: int
    steps: int
    lr: float


class StepTrainer(ABC):
    """A trainer that is a sequence of steps. A subclass defines :meth:`initial_state` and :meth:`update`.

    The rest is done here: the order of the samples and all random states are functions of the seed and the number of the
    step; gradients are clipped before the update; frozen parameters are not changed.

    Args:
        epochs: passes over the subset.
        batch_size: samples per step; a last batch of a single sample is merged into the one before.
        lr: the largest learning rate.
        schedule: "linear" (to zero), "cosine" (to zero) or "constant".
        warmup_steps: steps in which the learning rate rises linearly.
        clip_grad: the largest norm of the gradient of all parameters together; null: no limit.
        augment: a function that returns an augmented batch, for training only; its random numbers come from the global state of
            PyTorch, NumPy or Python. null: none.
        cache_mb: samples are kept in memory if they need at most this many MiB.
        problems: those that the subclass has found in its own arguments.

    Raises:
        ConfigError: names all arguments that are out of range.
    """

    #: The default of ``gradients.optimizer``: "sgd" or "adam".
    optimizer = "sgd"

    def __init__(
        self,
        epochs: int,
        batch_size: int,
        lr: float,
        schedule: str = "linear",
        warmup_steps: int = 0,
        clip_grad: float | None = None,
        augment: Augment | None = None,
        cache_mb: int = 512,
        problems: Sequence[Problem] = (),
    ) -> None:
        least = at_least(epochs=(epochs, 1), batch_size=(batch_size, 1), lr=(lr, 0), warmup_steps=(warmup_steps, 0))
        found = [*least, *problems, *at_least(cache_mb=(cache_mb, 0))]
        if schedule not in SCHEDULES:
            found.append(Problem("trainer.schedule", str(schedule), f"one of {', '.join(SCHEDULES)}", "choose one of them"))
        if clip_grad is not None and not clip_grad > 0:
            found.append(Problem("trainer.clip_grad", str(clip_grad), "null or a positive number", "choose a larger value"))
        if found:
            raise ConfigError(found)
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr
        self.schedule, self.warmup_steps, self.clip_grad = schedule, warmup_steps, clip_grad
        self.augment, self.cache_mb = augment, cache_mb

    @abstractmethod
    def initial_state(self, params: Sequence[Tensor]) -> State:
        """The state before the first step, for these parameters: name -> tensors. Empty if there is none."""

    @abstractmethod
    def update(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: State, step: Step
    ) -> tuple[Sequence[Tensor], State]:
        """The parameters and the state after a step.

        A pure function: it changes no argument, uses nothing that changes between steps, and consists of operations that
        PyTorch differentiates. If a list of the state has one tensor for each parameter, then a parameter that the loss of a
        step does not reach keeps its value and these tensors.
        """

    def plan(self, rows: int, seed: int) -> Sequence[Sequence[int]]:
        """The positions, among ``rows`` samples, of those in the batch of each step; all epochs have equally many steps."""
        return BatchPlan(rows, self.epochs, self.batch_size, seed)

    def step(self, index: int, steps: int) -> Step:
        """Step ``index`` of ``steps``, with its learning rate."""
        return Step(index, steps, self.lr * factor(self.schedule, index, steps, self.warmup_steps))

    def run(
        self,
        model: nn.Module,
        task: Loss,
        dataset: Indexed,
        indices: Sequence[int],
        seed: int,
        collate: Collate,
        device: torch.device,
    ) -> StepRun:
        """The training of ``model`` as a sequence of steps; the arguments are those of :meth:`train`."""
        return StepRun(self, model, task, TrainingData(dataset, indices, collate, self.cache_mb), seed, device)

    def train(
        self,
        model: nn.Module,
        task: Loss,
        dataset: Indexed,
        indices: Sequence[int],
        seed: int,
        collate: Collate,
        device: torch.device,
        after_epoch: AfterEpoch | None = None,
        weights: Tensor | None = None,
    ) -> None:
        """See :class:`~trak_cli.plugins.Trainer`. The model ends in training mode; the global random states are restored."""
        run = self.run(model, task, dataset, indices, seed, collate, device)
        per_epoch = run.steps // self.epochs
        state = self.initial_state(run.parameters)
        with run.session():
            for index in range(run.steps):
                state = run.train_step(index, state, weights)
                if after_epoch is not None and (index + 1) % per_epoch == 0:
                    after_epoch(model, (index + 1) // per_epoch)


def at_least(**arguments: tuple[float, float]) -> list[Problem]:
    """A problem for each argument of a trainer that is below its limit: name -> (value, limit)."""
    return [
        Problem(f"trainer.{name}", str(value), f"at least {low}", "choose a larger value")
        for name, (value, low) in arguments.items()
        if not value >= low
    ]
