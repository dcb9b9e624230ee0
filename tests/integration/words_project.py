"""A user's language model as small as can be: sentences of different lengths, of which the first tokens are not predicted."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

ROWS, TARGETS, DIM, SHARD_ROWS, MICROBATCH, TOKENS = 60, 12, 48, 16, 8, 12

PLUGIN = """
import torch
from torch import nn

from trak_cli.tasks import CausalLM, Classification


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(12, 6), nn.Linear(12, 7), nn.Linear(7, 12)

    def forward(self, input_ids):
        x = self.embed(input_ids)
        before = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        return self.head(torch.tanh(self.mix(torch.cat([x, before], -1))))


class Data:
    def __init__(self, rows, seed=0, empty=None):
        self.rows, self.seed, self.empty = rows, seed, empty

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        generator = torch.Generator().manual_seed(1000 * self.seed + row)
        tokens = torch.randint(12, (3 + row % 6,), generator=generator)
        left_out = len(tokens) if row == self.empty else row % 3
        return {"input_ids": tokens, "labels": torch.where(torch.arange(len(tokens)) < left_out, -100, tokens)}


class Collate:
    def __call__(self, samples):
        pads = {"input_ids": 0, "labels": -100}
        return {
            key: nn.utils.rnn.pad_sequence([one[key] for one in samples], batch_first=True, padding_value=pad)
            for key, pad in pads.items()
        }


class Halves(CausalLM):
    def output(self, model, batch):
        return super().output(model, batch) / 2
"""

CONFIG = f"""
defaults:
  - trak
  - _self_
  - override task: causal_lm
name: tiny
device: cpu
threads: 1
checkpoints: checkpoints/*
model: {{_target_: words_plugin.Net}}
dataset:
  train: {{_target_: words_plugin.Data, rows: {ROWS}, seed: 1}}
  targets:
    test: {{_target_: words_plugin.Data, rows: {TARGETS}, seed: 2}}
  collate: {{_target_: words_plugin.Collate}}
gradients:
  engine: hooks
  microbatch: {MICROBATCH}
projection:
  kind: rademacher
  dim: {DIM}
features:
  shard_rows: {SHARD_ROWS}
lds:
  bootstrap: 20
  plot: false
"""


def write_words(folder: Path) -> None:
    """Plugin, YAML and two checkpoints."""
    folder.mkdir(parents=True)
    (folder / "words_plugin.py").write_text(PLUGIN)
    (folder / "tiny.yaml").write_text(CONFIG)
    (folder / "checkpoints").mkdir()
    shapes = {"embed.weight": (12, 6), "mix.weight": (7, 12), "mix.bias": (7,), "head.weight": (12, 7), "head.bias": (12,)}
    for seed, name in enumerate("ab"):
        generator = torch.Generator().manual_seed(seed)
        weights = {key: torch.randn(shape, generator=generator) / 2 for key, shape in shapes.items()}
        save_file(weights, folder / "checkpoints" / f"{name}.safetensors")
