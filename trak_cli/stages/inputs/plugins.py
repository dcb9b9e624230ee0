"""The plugins that the config names: model, task, data sets and collate function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from trak_cli.batches import to_device
from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import instantiate, instantiate_repeatable
from trak_cli.errors import InputError, Problem
from trak_cli.plugins.placement import Placement
from trak_cli.plugins.samples import check_length, check_repeatable, collate
from trak_cli.stages.inputs.device import choose_device
from trak_cli.stages.inputs.joined import JoinedCollate, joined_task, joins
from trak_cli.stages.inputs.microbatches import TrainingBatches
from trak_cli.stages.inputs.models import Models
from trak_cli.stages.inputs.probes import spread_rows
from trak_cli.tasks import Task
from trak_cli.types import TRAIN
from trak_cli.user_errors import report_user_errors

#: Samples of each data set that are read twice, to check that it returns the same values, and the seconds that this may take.
REPEATED_SAMPLES, REPEATED_SECONDS = 128, 4.0


@dataclass(frozen=True)
class Components:
    """The plugins of a run.

    Attributes:
        models: builds models, and holds the one in use.
        splits: split name -> data set; the training set comes first.
        collate: a list of samples -> a batch.
    """

    models: Models
    task: Task
    splits: Mapping[str, Any]
    collate: Callable[[list[Any]], Any]

    @property
    def model(self) -> nn.Module:
        """The model in use."""
        return self.models.current


def make_components(config: TrakConfig, device: torch.device, first_rows: int | None = None) -> Components:
    """Task, data sets and collate function of the config, and the model factory. No model is built yet.

    ``first_rows``: as for :func:`trak_cli.stages.inputs.run_inputs.open_inputs`.
    """
    task, splits, together = make_task(config), make_splits(config), make_collate(config)
    train = splits[TRAIN]
    if joins(together, train):
        task, together = joined_task(task), JoinedCollate(together)

    def batch(rows: Sequence[int]) -> Any:
        return to_device(together([train[row] for row in rows]), device)

    placement = (
        None if config.device_map is None else Placement(config.device_map, device, partial(choose_device, key="device_map"))
    )
    batches = TrainingBatches(batch, min(len(train), first_rows or len(train)))
    models = Models(lambda: make_model(config), task, batches, device, placement)
    return Components(models, task, splits, together)


def make_model(config: TrakConfig) -> nn.Module:
    """A new model, as the plugin returns it.

    Raises:
        InputError: the plugin does not return a module.
    """
    model = instantiate(config.model, "model")
    if not isinstance(model, nn.Module):
        raise InputError(Problem("model", type(model).__name__, "a torch.nn.Module", "return the module from the model plugin"))
    return model


def make_task(config: TrakConfig) -> Task:
    """The task.

    Raises:
        InputError: the plugin is not a :class:`~trak_cli.tasks.Task`.
    """
    task = instantiate_repeatable(config.task, "task")
    if not isinstance(task, Task):
        remedy = "derive the class from trak_cli.tasks.Task and define output(model, batch)"
        raise InputError(Problem("task", type(task).__name__, "a trak_cli.tasks.Task", remedy))
    return task


def make_splits(config: TrakConfig) -> dict[str, Any]:
    """The training set and every target split.

    Raises:
        InputError: a data set without a length, an empty one, or one that returns different values for the same sample.
    """
    splits = {TRAIN: instantiate_repeatable(config.dataset.train, "dataset.train")}
    for name, node in config.dataset.targets.items():
        splits[name] = instantiate_repeatable(node, f"dataset.targets.{name}")
    problems: list[Problem] = []
    cause: BaseException | None = None
    for name, dataset in splits.items():
        key = "dataset.train" if name == TRAIN else f"dataset.targets.{name}"
        try:
            with report_user_errors(key, any_code=True):
                rows = check_length(dataset, key)
            check_repeatable(dataset, spread_rows(rows, REPEATED_SAMPLES), name, REPEATED_SECONDS)
        except InputError as error:
            problems += error.problems
            cause = cause or error.__cause__
    if problems:
        raise InputError(problems) from cause
    return splits


def make_collate(config: TrakConfig) -> Callable[[list[Any]], Any]:
    """The function that collates samples to a batch; PyTorch's default unless the config names another."""
    if config.dataset.collate is None:
        return collate
    configured: Callable[[list[Any]], Any] = instantiate_repeatable(config.dataset.collate, "dataset.collate")
    return configured
