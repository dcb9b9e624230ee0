"""The trainer contract of `trak train` and `trak retrain`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trak_cli.plugins.samples import Indexed

Collate = Callable[[list[Any]], Any]

#: A batch on the device -> an augmented one.
Augment = Callable[[Any], Any]

#: Called after each epoch with the model, which it must not change, and the number of epochs so far.
AfterEpoch = Callable[[nn.Module, int], None]


class Loss(Protocol):
    """The part of a task that training needs."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean loss of a batch, a scalar."""

    def weighted_loss(self, model: nn.Module, batch: Any, weights: Tensor) -> Tensor:
        """Σ_i w_i ℓ_i / B for weights (B,), a scalar; with all weights 1, the loss."""


class Trainer(Protocol):
    """Trains a model on a subset of the training set. Write one to use your own training program.

    For a training that is a sequence of optimizer steps, derive from :class:`~trak_cli.plugins.StepTrainer` instead, which
    `trak unroll` needs.

    The class attribute ``optimizer`` ("sgd" or "adam") is the default of ``gradients.optimizer``; if it is missing, "sgd" is.
    With ``train.snapshots``, ``train`` gets one more argument, ``after_epoch`` (:data:`AfterEpoch`), and where samples are
    weighted (``retrain.same_seed``), the argument ``weights``. A trainer without the argument is refused there.
    The model is on ``device``, with initial weights that depend on the seed, and so do the global random states of PyTorch,
    NumPy and Python. With ``train.start`` or ``train.only_parameters``, weights come from a file, and parameters that require
    no gradient must not be changed.
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
        after_epoch: AfterEpoch | None = None,
        weights: Tensor | None = None,
    ) -> None:
        """Train ``model`` in place on the samples ``indices`` of ``dataset``; the same seed must give the same model.

        Args:
            weights: (len(indices),) float, the weights of the samples' losses; None: all 1. The loss of a batch is
                Σ_i w_i ℓ_i / B (``task.weighted_loss``). A sample of weight 0 keeps its place in its batch.
        """
