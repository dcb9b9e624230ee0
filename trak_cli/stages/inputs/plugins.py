"""The plugins that the config names: model, task, data sets and collate function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import instantiate
from trak_cli.errors import InputError, Problem
from trak_cli.plugins.samples import check_length, check_repeatable, collate
from trak_cli.tasks import Task
from trak_cli.types import TRAIN, evenly_spaced

#: Samples of each data set that are read twice, to check that it returns the same values.
REPEATED_SAMPLES = 9


@dataclass(frozen=True)
class Components:
    """The plugins of a run.

    Attributes:
        splits: split name -> data set; the training set comes first.
        collate: a list of samples -> a batch.
    """

    model: nn.Module
    task: Task
    splits: Mapping[str, Any]
    collate: Callable[[list[Any]], Any]


def make_components(config: TrakConfig) -> Components:
    """Model, task, data sets and collate function of the config."""
    return Components(make_model(config), make_task(config), make_splits(config), make_collate(config))


def make_model(config: TrakConfig) -> nn.Module:
    """A fresh model in evaluation mode.

    Raises:
        InputError: the plugin does not return a module.
    """
    model = instantiate(config.model, "model")
    if not isinstance(model, nn.Module):
        raise InputError(Problem("model", type(model).__name__, "a torch.nn.Module", "return the module from the model plugin"))
    return model.eval()


def make_task(config: TrakConfig) -> Task:
    """The task.

    Raises:
        InputError: the plugin is not a :class:`~trak_cli.tasks.Task`.
    """
    task = instantiate(config.task, "task")
    if not isinstance(task, Task):
        raise InputError(
            Problem(
                "task",
                type(task).__name__,
                "a trak_cli.tasks.Task",
                "derive the class from trak_cli.tasks.Task and define output(model, batch)",
            )
        )
    return task


def make_splits(config: TrakConfig) -> dict[str, Any]:
    """The training set and every target split.

    Raises:
        InputError: a data set without a length, an empty one, or one that returns different values for the same sample.
    """
    splits = {TRAIN: instantiate(config.dataset.train, "dataset.train")}
    for name, node in config.dataset.targets.items():
        splits[name] = instantiate(node, f"dataset.targets.{name}")
    problems: list[Problem] = []
    for name, dataset in splits.items():
        key = "dataset.train" if name == TRAIN else f"dataset.targets.{name}"
        try:
            check_repeatable(dataset, evenly_spaced(check_length(dataset, key), REPEATED_SAMPLES).tolist())
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return splits


def make_collate(config: TrakConfig) -> Callable[[list[Any]], Any]:
    """The function that collates samples to a batch; PyTorch's default unless the config names another."""
    if config.dataset.collate is None:
        return collate
    configured: Callable[[list[Any]], Any] = instantiate(config.dataset.collate, "dataset.collate")
    return configured
