"""A trainer that keeps the state of its optimizer, so that it can be saved beside the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trak_cli.plugins import AdamWTrainer, Step
from trak_cli.plugins.trainers.step_trainer import State


class RecordingAdamW(AdamWTrainer):
    """AdamW; ``last`` is the state after the latest step, as ``torch.optim.AdamW.state_dict`` returns it."""

    last: dict[str, Any]

    def update(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: State, step: Step
    ) -> tuple[Sequence[Tensor], State]:
        """The update of AdamW."""
        new, after = super().update(params, grads, state, step)
        number = torch.tensor(float(step.index + 1))
        moments = zip(after["mean"], after["square"], strict=True)
        group = {"params": list(range(len(new))), "lr": step.lr, "betas": self.betas, "eps": self.eps}
        RecordingAdamW.last = {
            "state": {i: {"step": number, "exp_avg": mean, "exp_avg_sq": square} for i, (mean, square) in enumerate(moments)},
            "param_groups": [{**group, "weight_decay": self.weight_decay, "amsgrad": False}],
        }
        return new, after
