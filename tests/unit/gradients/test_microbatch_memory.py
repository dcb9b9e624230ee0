"""The choice of a microbatch leaves nothing behind."""

from __future__ import annotations

import gc
import weakref

import torch
from torch import nn

from trak_cli.gradients.parameters import select
from trak_cli.gradients.tuning.memory import GradientWork, choose_microbatch
from trak_cli.tasks import Classification


def test_the_model_is_released_after_its_memory_is_measured() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    kept = weakref.ref(model[0].weight)
    batch = (torch.randn(1, 4), torch.tensor([1]))
    choose_microbatch("hooks", GradientWork(model, Classification(), batch, select(model, ["*"])), 16)
    del model
    gc.collect()
    assert kept() is None
