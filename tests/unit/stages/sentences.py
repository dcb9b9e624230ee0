"""Sentences of given lengths, a language model as small as can be, and the stage's own way from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.gradients.transforms.token_signs import SignedTokenSum
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.stages.featurizing.featurizer import Featurizer, SecondPass
from trak_cli.stages.inputs.split import Split
from trak_cli.tasks import CausalLM
from trak_cli.types import Rows

WORDS, SHA256 = 12, "5a" * 32


class Sentences:
    """Row i has ``lengths[i]`` words, which depend on i; the label of one is out of range where ``wrong`` says so."""

    def __init__(self, lengths: Sequence[int], wrong: int | None = None) -> None:
        self.lengths, self.wrong = lengths, wrong
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        self.read.append(row)
        ids = torch.randint(WORDS, (self.lengths[row],), generator=torch.Generator().manual_seed(row))
        return {"input_ids": ids, "labels": ids + WORDS * (row == self.wrong)}


def padded(samples: list[Any]) -> dict[str, Tensor]:
    filling = {"input_ids": 0, "labels": -100}
    return {
        key: nn.utils.rnn.pad_sequence([one[key] for one in samples], batch_first=True, padding_value=value)
        for key, value in filling.items()
    }


class Reader(nn.Module):
    """Every next word from the last one and the mean of those before; counts the positions that are requested."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(WORDS, 4), nn.Linear(8, 5), nn.Linear(5, WORDS)
        self.positions = 0

    def forward(self, input_ids: Tensor) -> Tensor:
        self.positions += input_ids.numel()
        x = self.embed(input_ids)
        before = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        logits: Tensor = self.head(torch.tanh(self.mix(torch.cat([x, before], -1))))
        return logits


def split_of(lengths: Sequence[int], name: str = "train", wrong: int | None = None) -> Split:
    return Split(name, Sentences(lengths, wrong), len(lengths), padded, torch.device("cpu"))


def featurizer(engine: str, microbatch: int, terms: bool = True) -> Featurizer:
    """Of a model with fixed weights, without a projection: features are gradients."""
    torch.manual_seed(0)
    model, task = Reader().eval(), CausalLM()
    parameters = select(model, ["*"])
    sizes = {name: one.numel() for name, one in parameters.items()}
    strategies = find_strategies(model, task, parameters, padded([Sentences([6, 3])[row] for row in range(2)]))
    projector = make_projector(ProjectionJob(ProjectionSpec("none", sum(sizes.values())), SHA256, sizes))
    made = make_engine(engine, model, task, parameters, strategies)
    signed = make_engine(engine, model, SignedTokenSum(task, SHA256), parameters, strategies) if terms else None
    return Featurizer(model, task, made, projector, sum(sizes.values()), microbatch, signed and SecondPass(signed, "terms"))


def columns(made: Featurizer, split: Split, shard_rows: int | None = None) -> dict[str, Tensor]:
    """Every column of all rows, put together from shards of ``shard_rows``."""
    size = shard_rows or split.rows
    shards = [
        made.rows(split, Rows(start, min(start + size, split.rows)), lambda _: None) for start in range(0, split.rows, size)
    ]
    names = ("features", "out_to_loss", "outputs", "term_features", "terms") if made.second else ("features", "outputs")
    found = {name: torch.cat([torch.from_numpy(getattr(shard, name)) for shard in shards]) for name in names}
    ids = [torch.tensor(shard.sample_ids.astype("int64")) for shard in shards]
    return {**found, "sample_ids": torch.cat(ids)}
