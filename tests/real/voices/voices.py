"""Resemblyzer's speaker encoder, a three-layer LSTM, with a new last layer, and synthetic voices."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

SPEAKERS, FRAMES, MELS = 8, 60, 40


class SpeakerClassifier(nn.Module):
    """(B, T, 40) mel spectrograms to logits (B, 8). The encoder starts from the weights that the package ships."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        spec = importlib.util.find_spec("resemblyzer")
        (folder,) = spec.submodule_search_locations
        state = torch.load(Path(folder) / "pretrained.pt", map_location="cpu", weights_only=True)["model_state"]
        self.load_state_dict({name: value for name, value in state.items() if not name.startswith("similarity")})
        self.head = nn.Linear(256, SPEAKERS)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        embedding = torch.relu(self.linear(hidden[-1]))
        return self.head(8 * nn.functional.normalize(embedding, dim=1))


class Voices(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Vowel-like sounds: harmonics of a gliding pitch through the three formants of one of eight speakers."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.seed = rows, seed

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        speaker = row % SPEAKERS
        own = torch.Generator().manual_seed(77 + speaker)
        formants = torch.tensor([500.0, 1500.0, 2600.0]) * (0.75 + 0.5 * torch.rand(3, generator=own))
        base = 90 + 130 * torch.rand((), generator=own)
        generator = torch.Generator().manual_seed(10_000 * self.seed + row)
        pitch = base * (1 + 0.15 * (torch.rand(2, generator=generator) - 0.5))
        vowel = formants * (1 + 0.2 * (torch.rand(3, generator=generator) - 0.5))
        frames = torch.linspace(0, 1, FRAMES)
        glide = pitch[0] + (pitch[1] - pitch[0]) * frames
        centres = 700 * (10 ** (torch.linspace(1, 2840, MELS) / 2595) - 1)
        harmonics = glide[:, None, None] * torch.arange(1, 31)  # (T, 1, 30)
        loudness = torch.exp(-(((harmonics - vowel[:, None]) / 200) ** 2)).sum(1)  # (T, 30)
        mels = (loudness[:, None] * torch.exp(-(((centres[:, None] - harmonics) / (40 + centres[:, None] / 8)) ** 2))).sum(-1)
        return 0.02 * mels * (1 + 0.2 * torch.rand(FRAMES, MELS, generator=generator)), speaker
