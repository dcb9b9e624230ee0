"""Checks that a checkpoint has the same outputs after another one as it has alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.gradients.checks.compare import worst_output
from trak_cli.gradients.checks.observation import Observation, observe
from trak_cli.gradients.contract import ModelOutput


def observed_outputs(model: nn.Module, task: ModelOutput, singles: Sequence[Any]) -> Tensor:
    """f of samples that are collated alone, (number of samples,) float64, with fixed seeds of the random generators."""
    seen = Observation()
    observe(model, task, dict(enumerate(singles)), {}, seen)
    return torch.cat([seen.outputs[position] for position in range(len(singles))])


def check_across_checkpoints(used: Tensor, alone: Tensor, limit: float, where: Sequence[str]) -> None:
    """Compare the outputs of a checkpoint in use after another one with its outputs alone.

    Args:
        limit: the allowed relative difference.
        where: the names of the samples, then the name of the checkpoint.

    Raises:
        InputError: an output differs by more than rounding.
    """
    *names, checkpoint = where
    worst, difference = worst_output(used, alone)
    if difference > limit:
        found = (
            f"f = {float(used[worst]):.6g} for {names[worst]} under {checkpoint} after another checkpoint, but"
            f" {float(alone[worst]):.6g} under this checkpoint alone; a class or a module of your code keeps a value"
        )
        remedy = "keep no value that depends on weights or samples in a class attribute, a global variable or a cached function"
        raise InputError(Problem("model", found, "an output that depends on the sample and the weights alone", remedy))
