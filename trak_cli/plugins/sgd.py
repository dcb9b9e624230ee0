"""The trainer contract of `trak train` and `trak retrain`, and a trainer with SGD."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trak_cli.batches import to_device
from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.samples import Indexed

Collate = Callable[[list[Any]], Any]

#: Called after each epoch with the model, which it must not change, and the number of epochs so far.
AfterEpoch = Callable[[nn.Module, int], None]


class Loss(Protocol):
    """The part of a task that training needs."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean loss of a batch, a scalar."""


class Trainer(Protocol):
    """Trains a model on a subset of the training set. Write one to use your own training program.

    The class attribute ``optimizer`` ("sgd" or "adam") is the default of ``gradients.optimizer``; if it is missing, "sgd" is.
    With ``train.snapshots``, ``train`` gets one more argument, ``after_epoch`` (:data:`AfterEpoch`).
    The model is on ``device``, with initial weights that depend on the seed. With ``train.start`` or ``train.only_parameters``,
    weights come from a file, and parameters that require no gradient must not be changed.
    """

    def train(
        self,
        model: nn.Module,
        task: Loss,
        dataset: Indexed,
        indices: Sequence[int],
        seed: int,
        collate: Collate,
        device: torch.device,
    ) -> None:
        """Train ``model`` in place on the samples ``indices`` of ``dataset``; the same seed must give the same model."""


class SGDTrainer:
    """Stochastic gradient descent with momentum, weight decay, and a learning rate that decreases linearly to zero.

    Args:
        epochs: passes over the subset.
        batch_size: samples per step; a last batch of a single sample is merged into the one before.
        lr: initial learning rate.
        momentum: of the gradient.
        weight_decay: L2 penalty.
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
        weight_decay: float = 5e-4,
        cache_mb: int = 512,
    ) -> None:
        least = {"epochs": (epochs, 1), "batch_size": (batch_size, 1), "lr": (lr, 0), "momentum": (momentum, 0)}
        least |= {"weight_decay": (weight_decay, 0), "cache_mb": (cache_mb, 0)}
        problems = [
            Problem(f"trainer.{name}", str(value), f"at least {low}", "choose a larger value")
            for name, (value, low) in least.items()
            if not value >= low
        ]
        if problems:
            raise ConfigError(problems)
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.cache_mb = cache_mb

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
    ) -> None:
        """See :class:`Trainer`. The model ends in training mode; the global random state is restored."""
        read = self._reader(dataset, indices)
        order = torch.Generator().manual_seed(seed)
        optimizer = self.make_optimizer(model)
        steps = self.epochs * len(list(self._batches(range(len(indices)))))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        model.train()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
            torch.manual_seed(seed)  # for dropout
            for epoch in range(1, self.epochs + 1):
                shuffled = torch.randperm(len(indices), generator=order).tolist()
                for positions in self._batches(shuffled):
                    batch = to_device(collate([read(position) for position in positions]), device)
                    optimizer.zero_grad(set_to_none=True)
                    task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
                if after_epoch is not None:
                    after_epoch(model, epoch)

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimizer of the trainable parameters."""
        return torch.optim.SGD(trainable(model), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def _batches(self, positions: Sequence[int]) -> Iterator[Sequence[int]]:
        """Runs of ``batch_size``; a last run of one sample is merged, because BatchNorm cannot train on one sample."""
        starts = list(range(0, len(positions), self.batch_size))
        if len(starts) > 1 and len(positions) - starts[-1] == 1 and self.batch_size > 1:
            starts.pop()
        for start, stop in zip(starts, [*starts[1:], len(positions)], strict=True):
            yield positions[start:stop]

    def _reader(self, dataset: Indexed, indices: Sequence[int]) -> Callable[[int], Any]:
        """Position in ``indices`` -> sample, from memory if all samples fit."""
        if _bytes(dataset[indices[0]]) * len(indices) > self.cache_mb * 2**20:
            return lambda position: dataset[indices[position]]
        return [dataset[index] for index in indices].__getitem__


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that require a gradient."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _bytes(sample: Any) -> int:
    """The approximate size of a sample in bytes."""
    if isinstance(sample, Tensor):
        return sample.nbytes
    if isinstance(sample, dict):
        return sum(map(_bytes, sample.values()))
    if isinstance(sample, list | tuple):
        return sum(map(_bytes, sample))
    return int(getattr(sample, "nbytes", 64))
