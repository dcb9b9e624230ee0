"""Trains one model at a time with the configured trainer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trak_cli.autograd_settings import as_in_evaluation
from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import instantiate_repeatable
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.checks.independence import check_independence
from trak_cli.plugins.checkpoints.fresh_weights import starts_random
from trak_cli.plugins.checkpoints.notes import CAN_BE_BLENDED
from trak_cli.plugins.checkpoints.state import dump
from trak_cli.plugins.model_state import evaluated
from trak_cli.plugins.trainers.contract import AfterEpoch, Trainer
from trak_cli.plugins.trainers.step_run import StepRun
from trak_cli.plugins.trainers.step_trainer import StepTrainer
from trak_cli.random_states import random_states_kept, set_random_states
from trak_cli.stages.featurizing.task_context import make_context
from trak_cli.stages.inputs.plugins import make_components
from trak_cli.stages.inputs.probes import choose_probes
from trak_cli.stages.inputs.split import Split
from trak_cli.stages.inputs.validation import validate_batch
from trak_cli.stages.training.partial_training import prepared
from trak_cli.tasks.weighting import check_losses
from trak_cli.types import TRAIN, Float32, Rows, shards_of
from trak_cli.user_errors import report_user_errors

#: Samples of the training set whose losses are compared with their mean.
CHECKED_LOSSES = 16

#: Samples per forward pass when samples are validated and outputs computed.
OUTPUT_BATCH = 256


class Training:
    """The configured model, task, data and trainer. Trains any number of models, each on any part of the training set."""

    def __init__(self, config: TrakConfig, device: torch.device) -> None:
        self._config = config
        self._device = device
        self._components = make_components(config, device)
        self._task, self._collate = self._components.task, self._components.collate
        self.splits = self._components.splits
        trainer = instantiate_repeatable(config.trainer, "trainer")
        if not hasattr(trainer, "train"):
            expected = "train(model, task, dataset, indices, seed, collate, device)"
            remedy = "define the method as trak_cli.plugins.Trainer describes it"
            raise InputError(Problem("trainer", f"{type(trainer).__name__} without a method train", expected, remedy))
        self._trainer: Trainer = trainer
        self._validated = False
        self._independent: set[str] = set()  # the splits whose outputs are known not to depend on their batch

    @property
    def rows(self) -> int:
        """n, the number of training samples."""
        return len(self.splits[TRAIN])

    def model(
        self, indices: Sequence[int], seed: int, after_epoch: AfterEpoch | None = None, weights: Tensor | None = None
    ) -> nn.Module:
        """A model in training mode, initialised and trained with ``seed`` on the training samples ``indices``.

        ``train.start`` and ``train.only_parameters`` apply, see :mod:`trak_cli.stages.training.partial_training`.

        Args:
            after_epoch: called after each epoch, if the trainer supports it.
            weights: (len(indices),) float, the weights of the samples' losses, if the trainer supports them; None: all 1.

        Raises:
            ConfigError, InputError: the trainer does not support an argument; errors of :meth:`_prepared`.
        """
        more: dict[str, Any] = {"after_epoch": after_epoch, "weights": weights}
        more = {name: value for name, value in more.items() if value is not None}
        for name in more.keys() - inspect.signature(self._trainer.train).parameters.keys():
            raise InputError(_unsupported(self._trainer, name))
        with self._prepared(seed, weighted=weights is not None) as model, report_user_errors("trainer", library=True):
            self._trainer.train(model, self._task, self.splits[TRAIN], indices, seed, self._collate, self._device, **more)
            if not model.training:  # weights are stored as training leaves them, and put into evaluation mode once loaded
                model.train()
        return model

    @cached_property
    def as_checkpoint(self) -> Callable[[nn.Module], bytes]:
        """A function that returns the content of the checkpoint file of a trained model, see :func:`dump`."""
        return partial(dump, notes=CAN_BE_BLENDED if self._can_be_blended() else {})

    def _can_be_blended(self) -> bool:
        """Whether a trained model can be blended with new ones for an ensemble.

        Its training started from random weights of the model plugin, which is certain of our own loop only, and an output
        depends on one sample.
        """
        if self._config.against_blends or list(self._task.context_rows(self.rows)):
            return False
        trainer = type(self._trainer)
        ours = issubclass(trainer, StepTrainer) and trainer.train is StepTrainer.train
        return ours and starts_random(self._components.models.build)

    @contextmanager
    def steps(self, indices: Sequence[int], seed: int) -> Iterator[StepRun]:
        """The training that :meth:`model` does with these arguments, as a sequence of steps, of which none is made yet.

        Inside the context, only the chosen parameters can change.

        Raises:
            InputError: the trainer is not a sequence of steps, or the task does not give the losses of single samples.
        """
        if not isinstance(self._trainer, StepTrainer):
            found = f"{type(self._trainer).__name__}, which is not a sequence of steps"
            expected = "a trainer derived from trak_cli.plugins.StepTrainer, such as trainer=sgd or trainer=adamw"
            remedy = "define initial_state(params) and update(params, grads, state, step), see docs/extending.md"
            raise InputError(Problem("trainer", found, expected, remedy))
        with self._prepared(seed, weighted=True) as model, report_user_errors("trainer", library=True):
            yield self._trainer.run(model, self._task, self.splits[TRAIN], indices, seed, self._collate, self._device)

    @contextmanager
    def _prepared(self, seed: int, weighted: bool) -> Iterator[nn.Module]:
        """A fresh model, in a context in which only the chosen parameters can change.

        The global random states stay as they are after the model was built with ``seed``, so that a trainer may draw from them.

        Raises:
            ConfigError, InputError: errors of :func:`prepared`; with ``weighted``, a task without the losses of single samples.
        """
        set_random_states(seed)
        model = self._components.models.build()
        with prepared(model, self._config.train, self._config.parameters):
            with random_states_kept():  # only some trainings are checked
                self._validate(model)
                if weighted:
                    some = self.split(TRAIN).take(Rows(0, min(self.rows, CHECKED_LOSSES)))
                    with as_in_evaluation(model), report_user_errors("task", library=True):
                        check_losses(self._task, model, some)
            yield model

    def outputs(self, model: nn.Module, split: str) -> Float32:
        """f of every sample of a split, (rows,) float32; the model is in evaluation mode afterwards.

        Raises:
            InputError: an output is not finite or depends on its batch, or the model raises an exception.
        """
        return self._values(model, split, self._task.output, "output", OUTPUT_BATCH)

    def losses(self, model: nn.Module, split: str) -> Float32:
        """The loss of every sample of a split, (rows,) float32; otherwise as :meth:`outputs`.

        Each sample is a batch of its own, because a loss may depend on its batch (the mean over the tokens of all samples, for
        example). Only tasks that compare a sample with others have batches of consecutive samples, always the same.
        """
        compares = bool(list(self._task.context_rows(self.rows)))
        return self._values(model, split, self._task.losses, "loss", OUTPUT_BATCH if compares else 1)

    def _values(
        self, model: nn.Module, split: str, function: Callable[[nn.Module, Any], Tensor], what: str, batch: int
    ) -> Float32:
        targets = self.split(split)
        if model.training:
            evaluated(model)
        with report_user_errors(f"{what} of a retrained model on {split}", library=True), torch.no_grad():
            self._bind_context(model)
            self._check_independence(model, targets)
            parts = [function(model, targets.take(rows)) for rows in shards_of(targets.rows, batch)]
        values: Float32 = torch.cat(parts).to("cpu", torch.float32).numpy()
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            found = f"a model {what} that is NaN or infinite"
            remedy = "check the settings of the trainer (has the model diverged?) and this sample"
            raise InputError(Problem(f"sample {row} of {split}", found, f"a finite {what}", remedy))
        return values

    def check_outputs(self, model: nn.Module, split: str) -> None:
        """Refuse a model whose f on some samples of a split depends on their batch; the model stays in its mode.

        Raises:
            InputError: f depends on the batch, or the model raises an exception.
        """
        with as_in_evaluation(model), report_user_errors(f"f on {split}", library=True), torch.no_grad():
            self._bind_context(model)
            self._check_independence(model, self.split(split))

    def _check_independence(self, model: nn.Module, targets: Split) -> None:
        if targets.name not in self._independent:
            check_independence(model, self._task, choose_probes(targets).trial)
            self._independent.add(targets.name)

    def split(self, name: str) -> Split:
        """The samples of a split, on the device."""
        dataset = self.splits[name]
        return Split(name, dataset, len(dataset), self._collate, self._device)

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """f of every sample of a batch, (B,), differentiable through everything that it depends on.

        If the task compares samples with some training samples (its context), that is also their part in f.
        """
        if rows := list(self._task.context_rows(self.rows)):
            train = self.split(TRAIN)
            parts = (train.take(rows[start : start + OUTPUT_BATCH]) for start in range(0, len(rows), OUTPUT_BATCH))
            self._task.bind(self._task.context(model, parts))
        return self._task.output(model, batch)

    def _validate(self, model: nn.Module) -> None:
        """Let the task check every sample of every split, once, before the first training step."""
        if self._validated:
            return
        with as_in_evaluation(model):
            for split in map(self.split, self.splits):
                for rows in shards_of(split.rows, OUTPUT_BATCH):
                    validate_batch(self._task, model, split.take(rows), split, rows)
        self._validated = True

    def _bind_context(self, model: nn.Module) -> None:
        """Give the task its context under this model, from the same training samples whatever the model was trained on."""
        if rows := list(self._task.context_rows(self.rows)):
            self._task.bind(make_context(self._task, model, self.split(TRAIN), rows))


def _unsupported(trainer: Trainer, name: str) -> Problem:
    """The refusal of a trainer without the argument ``name``."""
    found = f"{type(trainer).__name__}.train without an argument {name}"
    if name == "weights":
        expected = "a trainer that weights the losses of samples, such as trainer=sgd"
        return Problem("trainer", found, expected, "add the argument weights=None, and use task.weighted_loss if it is given")
    expected = "a trainer that calls after_epoch(model, epoch), such as trainer=sgd"
    return Problem("train.snapshots", found, expected, "add the argument, or set train.snapshots=0")
