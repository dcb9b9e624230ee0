"""Checks that a task can weight the losses of single samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trak_cli.batches import batch_size
from trak_cli.errors import InputError, Problem
from trak_cli.tasks.task import Task

#: Relative difference that rounding may cause.
_TOLERANCE = 1e-4


def check_losses(task: Task, model: nn.Module, batch: Any) -> None:
    """Refuse a task whose losses of single samples do not average to the loss that it trains on.

    Args:
        model: gives the same outputs every time, as in evaluation mode.
        batch: some samples.

    Raises:
        InputError: the mean of ``losses``, or ``weighted_loss`` with all weights 1, is not ``loss``.
    """
    with torch.no_grad():
        loss = task.loss(model, batch)
        losses = task.losses(model, batch)
        weighted = task.weighted_loss(model, batch, torch.ones(batch_size(batch), device=loss.device))
    if losses.shape != (batch_size(batch),) or not _close(losses.mean(), loss):
        found = f"shape {tuple(losses.shape)}, mean {losses.mean():.6g}, while loss returns {loss:.6g}"
        remedy = "define losses(model, batch), the loss of every sample, and remove loss, whose default is their mean"
        raise InputError(Problem("task.losses", found, "losses (B,) whose mean is loss", remedy))
    if not _close(weighted, loss):
        found = f"{weighted:.6g} with all weights 1, while loss returns {loss:.6g}"
        remedy = "let both compute the same loss, or remove weighted_loss, whose default is the weighted sum of losses over B"
        raise InputError(Problem("task.weighted_loss", found, "the loss", remedy))


def _close(value: torch.Tensor, loss: torch.Tensor) -> bool:
    return bool(torch.isclose(value.double(), loss.double(), rtol=_TOLERANCE, atol=1e-6))
