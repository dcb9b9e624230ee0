"""What makes a training smooth: the LDS of unrolling on digits with other activations, learning rates, norms and lengths.

python scripts/experiments/smooth_training.py [FILE]     writes docs/results/smooth_training.csv; one to two minutes

300 digits, 4 targets, a CNN of 3,658 parameters, batches of 16. The ground truth is the same run without 3 of the samples (same
initialisation, order and random states), 16 times. "change" is the mean over targets of the standard deviation of f over these
trainings, "error" the size of predicted minus actual changes, relative to the actual ones.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trak_cli.attribution.lds.ranks import spearman
from trak_cli.plugins import AdamWTrainer, Digits, SGDTrainer, StepTrainer
from trak_cli.plugins.samples import collate
from trak_cli.tasks import Classification
from trak_cli.unrolling.unroll import Unrolling

CPU = torch.device("cpu")
ROWS, TARGETS, TRAININGS, LEFT_OUT, BUDGET = 300, 4, 16, 3, 1500
TRAIN, TEST = Digits("train", train=ROWS, targets=200), Digits("test", train=ROWS, targets=200)
TASK = Classification()
RESULTS = Path(__file__).parents[2] / "docs" / "results" / "smooth_training.csv"


@dataclass(frozen=True)
class Setting:
    """A training: activation, normalisation, optimizer, its largest learning rate, and epochs."""

    activation: Callable[[], nn.Module] = nn.GELU
    norm: bool = False
    pool: Callable[[int], nn.Module] = nn.AvgPool2d
    optimizer: str = "sgd"
    lr: float = 0.05
    epochs: int = 15

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        norms: list[list[nn.Module]] = [[nn.BatchNorm2d(width)] if self.norm else [] for width in (8, 16)]
        first = [nn.Conv2d(1, 8, 3, padding=1), *norms[0], self.activation()]
        second = [nn.Conv2d(8, 16, 3, padding=1), *norms[1], self.activation(), self.pool(4), nn.Flatten()]
        return nn.Sequential(*first, *second, nn.Linear(64, 32), self.activation(), nn.Linear(32, 10))

    @property
    def trainer(self) -> StepTrainer:
        if self.optimizer == "adamw":
            return AdamWTrainer(epochs=self.epochs, batch_size=16, lr=self.lr)
        return SGDTrainer(epochs=self.epochs, batch_size=16, lr=self.lr)

    @property
    def row(self) -> dict[str, object]:
        norm = "BatchNorm" if self.norm else "none"
        pool = "maximum" if self.pool is nn.MaxPool2d else "average"
        parts = {"activation": self.activation.__name__, "norm": norm, "pooling": pool, "optimizer": self.optimizer}
        return {**parts, "lr": self.lr, "epochs": self.epochs}


BASE = Setting()
SETTINGS = [
    *(replace(BASE, epochs=epochs) for epochs in (5, 15, 30)),
    *(replace(BASE, lr=lr) for lr in (0.02, 0.1)),
    replace(BASE, activation=nn.ReLU),
    replace(BASE, pool=nn.MaxPool2d),
    replace(BASE, norm=True),
    replace(BASE, optimizer="adamw", lr=1e-3),
]


def outputs(model: nn.Module) -> Tensor:
    """f of the targets, (T,)."""
    with torch.no_grad():
        return TASK.output(model.eval(), collate([TEST[row] for row in range(TARGETS)])).double()


def scores(setting: Setting) -> Tensor:
    """∂f/∂w, (T, n)."""
    run = setting.trainer.run(setting.model(), TASK, TRAIN, range(ROWS), 0, collate, CPU)
    unrolling = Unrolling(run, TASK.output, BUDGET, TARGETS)
    unrolling.forward()
    *_, last = unrolling.sweep([lambda row=row: [collate([TEST[row]])] for row in range(TARGETS)])
    return last.derivative


def changes(setting: Setting) -> tuple[Tensor, Tensor]:
    """Weights of the samples in the trainings, (M, n), and the changes of f, (T, M)."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.ones(TRAININGS, ROWS)
    for row in weights:
        row[torch.randperm(ROWS, generator=generator)[:LEFT_OUT]] = 0

    def trained(some: Tensor | None) -> Tensor:
        model = setting.model()
        setting.trainer.train(model, TASK, TRAIN, range(ROWS), 0, collate, CPU, weights=some)
        return outputs(model)

    full = trained(torch.ones(ROWS))
    return weights, torch.stack([trained(row) for row in weights], 1) - full[:, None]


def measured(setting: Setting) -> dict[str, object]:
    start = time.process_time()
    weights, actual = changes(setting)
    predicted = scores(setting) @ (weights - 1).double().T
    error = float((predicted - actual).norm() / actual.norm())
    lds = float(np.mean(spearman(predicted.numpy(), actual.numpy())))
    change = float(actual.std(1).mean())
    seconds = time.process_time() - start
    return {
        **setting.row,
        "lds": f"{lds:.3f}",
        "error": f"{error:.2f}",
        "change": f"{change:.3f}",
        "seconds": f"{seconds:.0f}",
        "targets": TARGETS,
        "trainings": TRAININGS,
    }


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    rows = []
    for setting in SETTINGS:
        rows.append(measured(setting))
        print(rows[-1], flush=True)
    with Path(arguments[0] if arguments else RESULTS).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
