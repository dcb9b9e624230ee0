"""A trainer that keeps its optimizer, so that the state can be saved beside the weights."""

from __future__ import annotations

import torch
from torch import nn

from trak_cli.plugins import AdamWTrainer


class RecordingAdamW(AdamWTrainer):
    """AdamW; ``last`` is the optimizer of the latest training."""

    last: torch.optim.Optimizer

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW over the trainable parameters."""
        RecordingAdamW.last = super().make_optimizer(model)
        return RecordingAdamW.last
