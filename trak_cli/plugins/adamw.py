"""The trainer for transformers: AdamW."""

from __future__ import annotations

import torch
from torch import nn

from trak_cli.plugins.sgd import SGDTrainer, trainable


class AdamWTrainer(SGDTrainer):
    """AdamW with a learning rate that decreases linearly to zero. Frozen parameters are not changed.

    Args:
        epochs: passes over the subset.
        batch_size: samples per step; a last batch of a single sample is merged into the one before.
        lr: initial learning rate.
        weight_decay: decoupled weight decay on all parameters.
        cache_mb: samples are kept in memory if they need at most this many MiB.

    Raises:
        ConfigError: names all arguments that are out of range.
    """

    optimizer = "adam"

    def __init__(
        self, epochs: int = 10, batch_size: int = 32, lr: float = 1e-3, weight_decay: float = 0.01, cache_mb: int = 512
    ) -> None:
        super().__init__(epochs, batch_size, lr, weight_decay=weight_decay, cache_mb=cache_mb)

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW over the trainable parameters."""
        return torch.optim.AdamW(trainable(model), lr=self.lr, weight_decay=self.weight_decay)
