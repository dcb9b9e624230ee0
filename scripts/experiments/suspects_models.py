"""The image classifier of the study of wrong labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PhotoCNN(nn.Module):
    """Three 3 × 3 convolutions with stride 2 and two linear layers for (B, 3, 24, 24) images; logits (B, classes)."""

    def __init__(self, classes: int = 4, width: int = 16) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, width, 3, 2, padding=1)
        self.c2 = nn.Conv2d(width, 2 * width, 3, 2, padding=1)
        self.c3 = nn.Conv2d(2 * width, 2 * width, 3, 2, padding=1)
        self.f1 = nn.Linear(18 * width, 64)
        self.f2 = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        x = torch.relu(self.c3(torch.relu(self.c2(torch.relu(self.c1(x))))))
        logits: Tensor = self.f2(torch.relu(self.f1(x.flatten(1))))
        return logits
