"""The trainer for transformers: AdamW."""

from __future__ import annotations

import torch
from torch import nn

from trak_cli.plugins.sgd import SGDTrainer, trainable


class AdamWTrainer(SGDTrainer):
    """AdamW with a learning rate that falls linearly to zero; frozen parameters stay as they are.

    Args:
        epochs: passes over the subset.
        batch_size: samples of one step; a last batch of a single sample joins the one before it.
        lr: learning rate of the first step.
        weight_decay: decoupled, on all parameters.
        cache_mb: samples are read once and kept in memory when they need at most so many MiB.

    Raises:
        ConfigError: arguments out of range, all at once.
    """

    optimizer = "adam"

    def __init__(
        self, epochs: int = 10, batch_size: int = 32, lr: float = 1e-3, weight_decay: float = 0.01, cache_mb: int = 512
    ) -> None:
        super().__init__(epochs, batch_size, lr, weight_decay=weight_decay, cache_mb=cache_mb)

    def optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW over what is trainable."""
        return torch.optim.AdamW(trainable(model), lr=self.lr, weight_decay=self.weight_decay)
