"""Small networks with smooth activations, for scripts/experiments/unrolling.py."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class SmoothCNN(nn.Module):
    """Two convolutions and two linear layers with GELU and mean pooling, for (B, 1, 8, 8) images."""

    def __init__(self, classes: int = 10, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.third, self.last = nn.Linear(8 * width, 32), nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(F.gelu(self.first(x)), 2)
        x = F.avg_pool2d(F.gelu(self.second(x)), 2)
        out: Tensor = self.last(F.gelu(self.third(x.flatten(1))))
        return out


class SmoothMLP(nn.Module):
    """Linear layers with GELU between them."""

    def __init__(self, inputs: int, outputs: int, hidden: Sequence[int] = (32, 32)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([inputs, *hidden, outputs]))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = F.gelu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


class SmallEncoder(nn.Module):
    """One transformer layer with mean pooling: word ids (B, T), 0 for padding, to logits (B, classes)."""

    def __init__(self, classes: int, words: int, width: int = 24, heads: int = 2) -> None:
        super().__init__()
        self.word, self.heads = nn.Embedding(words, width), heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down, self.head = nn.Linear(width, 2 * width), nn.Linear(2 * width, width), nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = tokens != 0
        x = self.word(tokens)
        query, key, value = self.mix(self.norms[0](x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).masked_fill(~mask[:, None, None, :], -1e9)
        x = x + self.out((torch.softmax(attention, -1) @ value).transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(self.norms[1](x))))
        x = (self.norms[2](x) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        out: Tensor = self.head(x)
        return out
