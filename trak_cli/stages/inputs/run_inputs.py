"""Everything that a run reads: its device, plugins, splits and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.checkpoints.member import FRESH
from trak_cli.stages.inputs.checkpoints import Checkpoint, find_checkpoints
from trak_cli.stages.inputs.device import set_up_device
from trak_cli.stages.inputs.plugins import Components, make_components
from trak_cli.stages.inputs.split import Split
from trak_cli.types import TRAIN


@dataclass(frozen=True)
class RunInputs:
    """Attributes:
    device_name: the model name of the device, for people.
    components: the plugins. The model in use has the weights of the first checkpoint until another one is loaded.
    splits: the training set, then the target splits.
    """

    device: torch.device
    device_name: str
    components: Components
    splits: list[Split]
    checkpoints: list[Checkpoint]

    @property
    def train(self) -> Split:
        """The training set."""
        return self.splits[0]

    @property
    def samples(self) -> int:
        """How many samples a run reads: all splits, once for each checkpoint."""
        return len(self.checkpoints) * sum(split.rows for split in self.splits)


def can_have_blends(config: TrakConfig, inputs: RunInputs) -> bool:
    """Whether ``ensemble.kind=fresh`` would be accepted, but for the weights that the model plugin returns."""
    return not config.against_blends and not _compares_samples(inputs.components)


def _compares_samples(components: Components) -> bool:
    """Whether outputs compare a sample with others, whose embeddings under a blended member are not the checkpoint's."""
    return bool(list(components.task.context_rows(len(components.splits[TRAIN]))))


def _require_single_samples(checkpoints: Sequence[Checkpoint], components: Components) -> None:
    if any(checkpoint.blended for checkpoint in checkpoints) and _compares_samples(components):
        found = f"{FRESH}, with the task {type(components.task).__name__}, which compares a sample with others"
        expected = "a task whose outputs depend on one sample"
        raise ConfigError(Problem("ensemble.kind", found, expected, "give ensemble.kind=mask, or ensemble.members=0"))


def open_inputs(config: TrakConfig, base: Path, first_rows: int | None = None) -> RunInputs:
    """Build the plugins and check that every checkpoint fits the model. Relative paths start at ``base``.

    Args:
        first_rows: how many training samples the store had at first, among which are those that statistics of members are
            computed from: appended samples leave members as they are. None: all that there are.

    Raises:
        ConfigError, InputError, MachineError: a plugin, a data set, a checkpoint or the device cannot be used.
    """
    device, name = set_up_device(config.device, config.threads)
    components = make_components(config, device, first_rows)
    readers = config.features.readers
    if readers is None:
        readers = int(device.type != "cpu")
    splits = [
        Split(name, dataset, len(dataset), components.collate, device, readers) for name, dataset in components.splits.items()
    ]
    checkpoints = find_checkpoints(config, base)
    _require_single_samples(checkpoints, components)
    components.models.check(checkpoints)
    components.models.load(checkpoints[0])
    return RunInputs(device, name, components, splits, checkpoints)
