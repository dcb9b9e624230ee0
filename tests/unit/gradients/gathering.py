"""Models of any layers, and whole per-sample gradients, put together from an engine's blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import map_leaves
from trak_cli.gradients.checks.independence import Trial
from trak_cli.gradients.contract import Engine, ModelOutput, PerSample
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.tasks import Task
from trak_cli.types import Block


def trial(batch: Any, singles: Sequence[Any]) -> Trial:
    """A batch, the same in the opposite order, and its samples alone, all of one size."""
    names = [f"sample {row}" for row in range(len(singles))]
    return Trial(batch, map_leaves(lambda leaf: leaf.flip(0), batch), singles, names, [1] * len(singles))


class Sum(Task):
    """A random but fixed weighted sum of everything that the model gives for a sample."""

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        found = model(*batch) if isinstance(batch, tuple) else model(batch)
        flat = found.reshape(len(found), -1)
        weights = torch.linspace(-1, 1.3, flat.shape[1], dtype=torch.float64).to(flat)
        return (flat * weights).sum(1)


class Conv1D(nn.Module):
    """A stand-in for the layer of this name in transformers, which is recognised by its module: weight (in, out)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


Conv1D.__module__ = "transformers.pytorch_utils"


class Net(nn.Module):
    """Any function of some layers."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


def engine_of(name: str, model: nn.Module, task: ModelOutput, batch: Any, include: tuple[str, ...] = ("*",)) -> Engine:
    """An engine as a run makes it: ``hooks`` with the ways that were found on this batch."""
    model.eval()
    parameters = select(model, include)
    strategies = find_strategies(model, task, parameters, batch) if name == "hooks" else None
    return make_engine(name, model, task, parameters, strategies)


def gathered(result: PerSample, model: nn.Module, include: tuple[str, ...] = ("*",)) -> dict[str, Tensor]:
    """(B, d) of every parameter, in the order of the model and in the parameter's dtype."""
    batch = len(result.outputs)
    whole = {name: one.new_zeros(batch, one.numel()) for name, one in select(model, include).items()}
    for block in result.blocks:
        target = whole[block.name]
        if isinstance(block, Block):
            assert block.gradient.dtype == target.dtype
            target[:, block.offset : block.offset + block.gradient.shape[1]] += block.gradient
            continue
        pairs = [*zip(block.sample.tolist(), block.row.tolist(), strict=True)]
        assert sorted(set(pairs)) == pairs
        rows = target.view(batch, -1, block.values.shape[1])
        rows.index_put_((block.sample, block.row), block.values, accumulate=True)
    return {name: one.detach() for name, one in whole.items()}


def gradients(
    name: str, model: nn.Module, task: ModelOutput, batch: Any, include: tuple[str, ...] = ("*",)
) -> dict[str, Tensor]:
    """The gradients that an engine gives for a batch."""
    return gathered(engine_of(name, model, task, batch, include).per_sample(batch), model, include)
