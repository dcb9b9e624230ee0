"""One model, trained: what `trak train` and `trak retrain` have in common."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from trak_cli.batches import to_device
from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import instantiate
from trak_cli.errors import InputError, Problem
from trak_cli.plugins.sgd import AfterEpoch, Trainer
from trak_cli.stages.featurizing.checkpoint_cache import make_context
from trak_cli.stages.inputs.plugins import make_collate, make_model, make_splits, make_task
from trak_cli.stages.inputs.split import Split, validate
from trak_cli.stages.training.partial_training import started
from trak_cli.types import TRAIN, Float32, Rows, shards_of

#: Samples per forward pass when the outputs on a split are computed.
OUTPUT_BATCH = 256


class Training:
    """The configured model, task, data and trainer; trains any number of models on any part of the training set."""

    def __init__(self, config: TrakConfig, device: torch.device) -> None:
        self._config = config
        self._device = device
        self._task = make_task(config)
        self._collate = make_collate(config)
        self.splits = make_splits(config)
        trainer = instantiate(config.trainer, "trainer")
        if not hasattr(trainer, "train"):
            raise InputError(
                Problem(
                    "trainer",
                    f"{type(trainer).__name__} without a method train",
                    "train(model, task, dataset, indices, seed, collate, device)",
                    "see trak_cli.plugins.Trainer for the contract",
                )
            )
        self._trainer: Trainer = trainer
        self._validated = False

    @property
    def rows(self) -> int:
        """n, the number of training samples."""
        return len(self.splits[TRAIN])

    def model(self, indices: Sequence[int], seed: int, after_epoch: AfterEpoch | None = None) -> nn.Module:
        """A fresh model, initialised and trained from ``seed`` on the training samples ``indices``; in evaluation mode.

        ``train.start`` and ``train.only_parameters`` say what it starts from and what of it is trained (:func:`started`).

        Args:
            after_epoch: told after each epoch, where given; not every trainer can.

        Raises:
            ConfigError, InputError: the trainer cannot; what :func:`started` raises.
        """
        more: dict[str, Any] = {} if after_epoch is None else {"after_epoch": after_epoch}
        if more and "after_epoch" not in inspect.signature(self._trainer.train).parameters:
            raise InputError(
                Problem(
                    "train.snapshots",
                    f"{type(self._trainer).__name__}.train without an argument after_epoch",
                    "a trainer that calls after_epoch(model, epoch), such as trainer=sgd",
                    "add the argument, or set train.snapshots=0",
                )
            )
        torch.manual_seed(seed)
        model = make_model(self._config).to(self._device)
        with started(model, self._config.train, self._config.parameters):
            self._validate(model)
            self._trainer.train(model, self._task, self.splits[TRAIN], indices, seed, self._collate, self._device, **more)
        return model.eval()

    def _validate(self, model: nn.Module) -> None:
        """Let the task look at every sample of every split, once, before the first training step."""
        if self._validated:
            return
        for name, dataset in self.splits.items():
            for rows in shards_of(len(dataset), OUTPUT_BATCH):
                batch = self._batch(dataset, rows)
                validate(self._task, model, batch, name, rows)
        self._validated = True

    def _batch(self, dataset: Any, rows: Rows) -> Any:
        samples = [dataset[row] for row in range(rows.start, rows.stop)]
        return to_device(self._collate(samples), self._device)

    def _bind(self, model: nn.Module) -> None:
        """Give the task its context under this model: of the same training samples whatever the model was trained on."""
        if rows := list(self._task.context_rows(self.rows)):
            train = Split(TRAIN, self.splits[TRAIN], self.rows, self._collate, self._device)
            self._task.bind(make_context(self._task, model, train, rows))

    def outputs(self, model: nn.Module, split: str) -> Float32:
        """f of every sample of a split, (rows,) float32."""
        dataset = self.splits[split]
        self._bind(model)
        parts = []
        with torch.no_grad():
            for rows in shards_of(len(dataset), OUTPUT_BATCH):
                batch = self._batch(dataset, rows)
                parts.append(self._task.output(model, batch).to("cpu", torch.float32).numpy())
        outputs: Float32 = np.concatenate(parts)
        if not np.isfinite(outputs).all():
            row = int(np.flatnonzero(~np.isfinite(outputs))[0])
            raise InputError(
                Problem(
                    f"sample {row} of {split}",
                    "a model output that is NaN or infinite",
                    "finite outputs",
                    "look at the trainer's settings (a diverged model?) and at this sample",
                )
            )
        return outputs
