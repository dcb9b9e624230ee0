"""The gradients of recurrent layers by the hooks engine and by the loop, interleaved in one run.

    python scripts/bench_recurrent.py

Each model is one recurrent layer and a linear layer that reads its last state: 96 steps of 7 inputs. Times are CPU time of the
process per sample, the minimum over the rounds, with a projection to k = 512.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from bench_projection import machine, table
from torch import Tensor, nn

from trak_cli.gradients.contract import Engine
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.tasks import Regression

STEPS, INPUTS = 96, 7


class Forecast(nn.Module):
    """The last state of a recurrent layer, or of a cell that is called for each step, as one number."""

    def __init__(self, recurrent: nn.Module) -> None:
        super().__init__()
        self.recurrent = recurrent
        width = getattr(recurrent, "hidden_size", 0) * (1 + getattr(recurrent, "bidirectional", False))
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.recurrent, nn.RNNBase):
            return self.head(self.recurrent(x)[0][:, -1])
        state: Any = None
        for step in x.unbind(1):
            state = self.recurrent(step, state)
        return self.head(state)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "GRU, width 39": lambda: nn.GRU(INPUTS, 39, batch_first=True),
    "LSTM, width 64": lambda: nn.LSTM(INPUTS, 64, batch_first=True),
    "LSTM, 2 layers, both directions, width 64": lambda: nn.LSTM(
        INPUTS, 64, num_layers=2, bidirectional=True, batch_first=True
    ),
    "RNN, width 128": lambda: nn.RNN(INPUTS, 128, batch_first=True),
    "GRUCell, width 39": lambda: nn.GRUCell(INPUTS, 39),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--microbatches", type=int, nargs="+", default=[32, 128])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(machine().strip() + f", {arguments.threads} threads\n")
    rows = [measured(name, size, arguments.repeat) for name in MODELS for size in arguments.microbatches]
    table(["model", "parameters", "microbatch", "hooks, ms a sample", "loop", "loop / hooks"], rows)


def measured(name: str, size: int, repeat: int) -> list[str]:
    """One row of the table."""
    torch.manual_seed(0)
    model, task = Forecast(MODELS[name]()).eval(), Regression()
    batch = (torch.randn(size, STEPS, INPUTS), torch.randn(size))
    parameters = select(model, ["*"])
    strategies = find_strategies(model, task, parameters, batch)
    assert not strategies, f"no closed form for {strategies}"
    sizes = {parameter: value.numel() for parameter, value in parameters.items()}
    spec = ProjectionSpec(kind="sjlt", dim=512, seed=0, nonzeros=4)
    projector = make_projector(ProjectionJob(spec, "0" * 64, sizes, torch.device("cpu"), 1, {}), "auto")
    hooks, loop = (make_engine(engine, model, task, parameters, strategies) for engine in ("hooks", "loop"))

    def seconds(engine: Engine) -> float:
        start = time.process_time()
        projector.project(engine.per_sample(batch).blocks)
        return (time.process_time() - start) / size

    times = [(seconds(hooks), seconds(loop)) for _ in range(repeat)]
    fast, slow = (1000 * min(column) for column in zip(*times, strict=True))
    return [name, f"{sum(sizes.values()):,}", str(size), f"{fast:.3g}", f"{slow:.3g}", f"{slow / fast:.1f}"]


if __name__ == "__main__":
    main()
