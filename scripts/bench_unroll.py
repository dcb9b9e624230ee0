"""Time and memory of `trak unroll` relative to a training, for several kinds of models.

    python scripts/bench_unroll.py [--kinds cnn mlp transformer wide] [--budgets 192 256 512] [--targets 1 4]

Each measurement is a process of its own, on one thread. Memory: the largest resident memory while a training is checked, made
and differentiated, above that of the process with its model and data after two small steps of training, relative to
unroll.memory_mb. Time: CPU seconds of a training, of the training whose states are kept, and of one backward sweep, with the
largest budget; the faster of two. The rows replace docs/results/unroll_cost.csv and docs/results/unroll_memory.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.gradients.tuning.allocator import keep_freed_memory
from trak_cli.plugins import AdamWTrainer, SGDTrainer, StepTrainer
from trak_cli.plugins.samples import collate
from trak_cli.stages.unrolling.replay import unroll_budget
from trak_cli.tasks import CausalLM, Classification, Task
from trak_cli.unrolling.unroll import Unrolling

RESULTS = Path(__file__).parents[1] / "docs" / "results"
CPU = torch.device("cpu")
TIMES = 2


class Block(nn.Module):
    """A block of a causal transformer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.mix(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        mixed = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        found: Tensor = x + self.narrow(nn.functional.gelu(self.wide(self.between(x))))
        return found


class Transformer(nn.Module):
    """A small causal language model."""

    def __init__(self, tokens: int = 200, width: int = 64) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(tokens, width), nn.Linear(width, tokens)
        self.blocks = nn.Sequential(Block(width, 4), Block(width, 4))

    def forward(self, input_ids: Tensor) -> Tensor:
        found: Tensor = self.head(self.blocks(self.embedding(input_ids)))
        return found


def cnn() -> nn.Module:
    """Two convolutions."""
    first = [nn.Conv2d(1, 16, 3, padding=1), nn.GELU(), nn.AvgPool2d(2)]
    return nn.Sequential(*first, nn.Conv2d(16, 32, 3, padding=1), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(1568, 10))


def perceptron(*widths: int) -> nn.Module:
    """Linear layers with GELU between them."""
    layers = [part for pair in pairwise(widths) for part in (nn.GELU(), nn.Linear(*pair))]
    return nn.Sequential(*layers[1:])


def labelled(count: int, *shape: int) -> list[tuple[Tensor, int]]:
    """Random inputs with labels."""
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(shape, generator=generator), row % 10) for row in range(count)]


def texts(count: int, length: int) -> list[dict[str, Tensor]]:
    """Random tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 200, (count, length), generator=generator)
    return [{"input_ids": row, "labels": row.clone()} for row in ids]


#: Model, task, trainer and samples; the last two models have more parameters than activations.
Kind = tuple[Callable[[], nn.Module], Task, StepTrainer, list[Any]]
KINDS: dict[str, Callable[[], Kind]] = {
    "cnn": lambda: (cnn, Classification(), SGDTrainer(epochs=3, batch_size=64, lr=0.02), labelled(640, 1, 28, 28)),
    "mlp": lambda: (
        lambda: perceptron(64, 256, 256, 10),
        Classification(),
        SGDTrainer(epochs=4, batch_size=64, lr=0.02),
        labelled(1500, 64),
    ),
    "transformer": lambda: (Transformer, CausalLM(), AdamWTrainer(epochs=3, batch_size=16), texts(160, 32)),
    "wide": lambda: (
        lambda: perceptron(64, 500, 500, 10),
        Classification(),
        AdamWTrainer(epochs=3, batch_size=32),
        labelled(320, 64),
    ),
}


def main() -> None:
    """Measure, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--budgets", type=int, nargs="+", default=[192, 256, 512])
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 4])
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the command does
    memory, cost = [], []
    for kind in options.kinds:
        for budget in options.budgets:
            found = separate(peak, kind, budget)
            memory.append(
                {"kind": kind, "memory_mb": budget, "peak_mb": f"{found:.0f}", "peak_of_budget": f"{found / budget:.2f}"}
            )
            print(json.dumps(memory[-1]), flush=True)
            write(RESULTS / "unroll_memory.csv", memory)
        for targets in options.targets:
            plain, forward, sweep = separate(seconds, kind, targets)
            ratios = {"sweep": sweep / plain, "per_target": sweep / plain / targets, "all": (forward + sweep) / plain}
            rounded = {name: f"{value:.2f}" for name, value in ratios.items()}
            cost.append(
                {"kind": kind, "targets": targets, "training_s": f"{plain:.2f}", "kept": f"{forward / plain:.2f}", **rounded}
            )
            print(json.dumps(cost[-1]), flush=True)
            write(RESULTS / "unroll_cost.csv", cost)
    if any(float(row["peak_of_budget"]) > 1 for row in memory):
        sys.exit("the peak is above the budget")


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replace a table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def separate(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function in a process of its own, which starts with what is imported here."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def peak(kind: str, budget: int) -> float:
    """The largest resident memory of a forward pass and a sweep above that before, in MiB."""
    make, task, trainer, samples = KINDS[kind]()
    model = seeded(make)
    trainer.train(seeded(make), task, samples[:4], range(4), 0, collate, CPU)
    before = resident()
    unrolled(model, (task, trainer, samples), budget, 1)
    return getrusage(RUSAGE_SELF).ru_maxrss / 1024 - before


def seconds(kind: str, targets: int) -> tuple[float, float, float]:
    """CPU seconds of a training, of the one with kept states, and of a sweep: the fastest of some."""
    make, task, trainer, samples = KINDS[kind]()
    found: list[tuple[float, float, float]] = []
    for _ in range(TIMES):
        model = seeded(make)
        start = time.process_time()
        trainer.train(model, task, samples, range(len(samples)), 0, collate, CPU)
        plain = time.process_time() - start
        found.append((plain, *unrolled(seeded(make), (task, trainer, samples), 8000, targets)))
    first, second, third = (min(column) for column in zip(*found, strict=True))
    return first, second, third


def unrolled(model: nn.Module, rest: tuple[Task, StepTrainer, list[Any]], budget: int, targets: int) -> tuple[float, float]:
    """CPU seconds of the training with kept states, and of a sweep."""
    task, trainer, samples = rest
    initial = [value.detach().clone() for value in model.parameters()]
    run = trainer.run(model, task, samples, range(len(samples)), 0, collate, CPU)
    unrolling = Unrolling(run, task.output, unroll_budget(budget, initial, run.rows), targets)
    start = time.process_time()
    unrolling.forward()
    forward = time.process_time() - start
    start = time.process_time()
    for _ in unrolling.sweep([lambda row=row: [collate([samples[row]])] for row in range(targets)]):  # type: ignore[misc]
        pass
    return forward, time.process_time() - start


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """The same model every time."""
    torch.manual_seed(0)
    return make()


def resident() -> float:
    """Resident memory now, in MiB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    main()
