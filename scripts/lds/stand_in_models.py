"""Models of the settings that no choice of the default was made on."""

from __future__ import annotations

from torch import Tensor, nn


class Block(nn.Module):
    """x + conv-BatchNorm-ReLU-conv-BatchNorm(x), then ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.first_norm, self.second_norm = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first_norm(self.first(x)).relu()
        out: Tensor = (x + self.second_norm(self.second(inner))).relu()
        return out


class DigitsResNet(nn.Module):
    """A residual CNN with BatchNorm: images (B, 1, 8, 8) to logits (B, 10)."""

    def __init__(self, width: int = 12, blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.head = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        logits: Tensor = self.head(nn.functional.avg_pool2d(x, 4).flatten(1))
        return logits
