"""The objects that the config names: model, task, datasets, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import instantiate
from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.derived import derive
from trak_cli.plugins.checkpoints.files import find, name_of, sha256
from trak_cli.plugins.checkpoints.member import Member
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.plugins.samples import check_length, check_repeatable, collate
from trak_cli.stages.inputs.split import probes
from trak_cli.tasks import Task
from trak_cli.types import TRAIN


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights: a checkpoint file, or a member of an ensemble that is derived from one in memory.

    Attributes:
        path: the file.
        sha256: the identity of the weights: of the file, or of the member.
        name: what its folder in a store is called.
        member: how it is derived from the file; None for the file itself.
    """

    path: Path
    sha256: str
    name: str
    member: Member | None = None


@dataclass(frozen=True)
class Parts:
    """What the stages that run models work with."""

    model: nn.Module
    task: Task
    splits: Mapping[str, Any]
    collate: Callable[[list[Any]], Any]


def make_model(config: TrakConfig) -> nn.Module:
    """A fresh model in evaluation mode.

    Raises:
        InputError: the plugin returned something else.
    """
    model = instantiate(config.model, "model")
    if not isinstance(model, nn.Module):
        raise InputError(
            Problem("model", f"{type(model).__name__}", "a torch.nn.Module", "let the model plugin return the module")
        )
    return model.eval()


def make_task(config: TrakConfig) -> Task:
    """The task.

    Raises:
        InputError: the plugin is no :class:`~trak_cli.tasks.Task`.
    """
    task = instantiate(config.task, "task")
    if not isinstance(task, Task):
        raise InputError(
            Problem(
                "task",
                type(task).__name__,
                "a trak_cli.tasks.Task",
                "derive the class from trak_cli.tasks.Task and give it output(model, batch)",
            )
        )
    return task


def make_splits(config: TrakConfig) -> dict[str, Any]:
    """The training set and every target split, each checked to have a length and to give the same sample twice."""
    splits = {TRAIN: instantiate(config.dataset.train, "dataset.train")}
    for name, node in config.dataset.targets.items():
        splits[name] = instantiate(node, f"dataset.targets.{name}")
    problems: list[Problem] = []
    for name, dataset in splits.items():
        key = "dataset.train" if name == TRAIN else f"dataset.targets.{name}"
        try:
            check_repeatable(dataset, probes(check_length(dataset, key)))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return splits


def make_collate(config: TrakConfig) -> Callable[[list[Any]], Any]:
    """The function that makes a batch of samples."""
    if config.dataset.collate is None:
        return collate
    configured: Callable[[list[Any]], Any] = instantiate(config.dataset.collate, "dataset.collate")
    return configured


def make_parts(config: TrakConfig) -> Parts:
    """Model, task, splits and collate of the config."""
    return Parts(make_model(config), make_task(config), make_splits(config), make_collate(config))


def find_checkpoints(config: TrakConfig, base: Path) -> list[Checkpoint]:
    """The checkpoints of the config, in natural order; a file listed twice (or copied) counts once.

    Every file is followed by the members of the ensemble that are derived from it.
    """
    found: dict[str, Checkpoint] = {}
    for path in find(config.checkpoints, base):
        digest = sha256(path)
        found.setdefault(digest, Checkpoint(path, digest, name_of(path, digest)))
    asked = config.ensemble
    members = [Member(asked.kind, asked.scale, config.seed, index) for index in range(1, asked.members + 1)]
    every: list[Checkpoint] = []
    for digest, one in found.items():
        every.append(one)
        every += [Checkpoint(one.path, member.digest(digest), one.name + member.suffix, member) for member in members]
    return every


def load_checkpoint(model: nn.Module, checkpoint: Checkpoint, device: torch.device) -> None:
    """Put a checkpoint's weights into the model, on the device, in evaluation mode."""
    apply(model, load(checkpoint.path), checkpoint.path)
    if checkpoint.member is not None:
        derive(model, checkpoint.member, checkpoint.sha256)
    model.to(device).eval()
