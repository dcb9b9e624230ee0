"""Where the default is uncertain with one checkpoint: in its kernel or in its weights.

python scripts/lds/noise.py [SETTING ...] [--checkpoints 10]      after scripts/bench_lds.py has prepared the settings

Writes docs/results/default_noise.csv. LDS without shrinkage: of each checkpoint alone, of its kernel with the mean weights of
all checkpoints, of the mean kernel with its weights (means over the checkpoints), and of both means. ``agreement`` is the
mean correlation of the kernels of two checkpoints.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from kernels import kernels, truth
from setting import names
from variants import BASE, DEFAULT, Problem

from trak_cli.attribution.lds.lds import lds_of_predictions, subset_predictions

Array = np.ndarray[Any, Any]

COLUMNS = ("setting", "alone", "mean_weights", "mean_kernel", "together", "agreement")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", default=names())
    parser.add_argument("--checkpoints", type=int, default=10)
    arguments = parser.parse_args()
    with Path("docs/results/default_noise.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(COLUMNS)
        for name in arguments.settings:
            out.writerow([name, *(f"{value:.3f}" for value in measured(name, arguments.checkpoints))])


def measured(name: str, checkpoints: int) -> list[float]:
    """The values of the row, after the name of the setting."""
    masks, outputs = truth(name)
    problems = [Problem(one, BASE) for one in kernels(name, checkpoints)]
    parts = [(problem.kernel(DEFAULT.ridge), problem.sample) for problem in problems]
    kernel, weights = (np.mean([part[which] for part in parts], axis=0) for which in (0, 1))
    pairs = np.corrcoef([part[0].ravel() for part in parts])[np.triu_indices(len(parts), 1)]

    def lds(scores: Array) -> float:
        return lds_of_predictions(subset_predictions(scores, masks), outputs).mean

    return [
        float(np.mean([lds(own * q) for own, q in parts])),
        float(np.mean([lds(own * weights) for own, _ in parts])),
        float(np.mean([lds(kernel * q) for _, q in parts])),
        lds(kernel * weights),
        float(pairs.mean()),
    ]


if __name__ == "__main__":
    main()
