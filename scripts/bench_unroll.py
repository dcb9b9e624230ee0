"""Time and memory of `trak unroll` relative to one training, in one run.

    python scripts/bench_unroll.py [--epochs 3] [--budgets 64 256 1024]

Digits by the small CNN with SGD. Each measurement is a process of its own: CPU seconds of one training, of the training whose
states are kept, and of one backward sweep with 1, 8 and 32 targets; and the peak memory above that of the plain training, for
each budget (unroll.memory_mb). One thread. The rows replace docs/results/unroll_cost.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "unroll_cost.csv"
TARGETS = (1, 8, 32)


def main() -> None:
    """Measure, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--budgets", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.epochs, *options.one)))
        return
    plain = separate(options.epochs, 0, 0)
    rows = []
    for budget, targets in [(max(options.budgets), count) for count in TARGETS] + [(one, 1) for one in options.budgets]:
        found = separate(options.epochs, targets, budget)
        rows.append(
            {
                "targets": targets,
                "memory_mb": budget,
                "training_s": f"{plain['seconds']:.2f}",
                "training_kept_s": f"{found['forward']:.2f}",
                "sweep_s": f"{found['sweep']:.2f}",
                "sweep_trainings": f"{found['sweep'] / plain['seconds']:.2f}",
                "sweep_trainings_per_target": f"{found['sweep'] / plain['seconds'] / targets:.2f}",
                "peak_mb": f"{found['peak'] - plain['peak']:.0f}",
            }
        )
        print(*(f"{name} {value}" for name, value in rows[-1].items()), sep=", ", flush=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def separate(epochs: int, targets: int, budget: int) -> dict[str, Any]:
    """The measurement, in a process of its own."""
    command = [sys.executable, __file__, "--epochs", str(epochs), "--one", str(targets), str(budget)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def measure(epochs: int, targets: int, budget: int) -> dict[str, Any]:
    """CPU seconds and peak memory (MiB) of a training, or with targets those of a training and a sweep."""
    import torch

    from trak_cli.config.load import load
    from trak_cli.stages.training.trainer_run import Training
    from trak_cli.unrolling.unroll import Unrolling

    torch.set_num_threads(1)
    config = load("unroll", None, None, ["experiment=digits", f"trainer.epochs={epochs}", "trainer.lr=0.02"]).config
    training = Training(config, torch.device("cpu"))
    everything = range(training.rows)
    if not targets:
        training.model(range(64), 0)  # a first training pays for what is imported on first use
        start = time.process_time()
        training.model(everything, 0)
        return {"seconds": time.process_time() - start, "peak": peak()}
    split = training.split("test")
    with training.steps(everything, 0) as run:
        unrolling = Unrolling(run, training.output, budget, targets)
        start = time.process_time()
        unrolling.forward()
        forward = time.process_time() - start
        start = time.process_time()
        for _ in unrolling.sweep([lambda row=row: [split.take([row])] for row in range(targets)]):
            pass
        return {"forward": forward, "sweep": time.process_time() - start, "peak": peak()}


def peak() -> float:
    """The largest resident memory so far, in MiB."""
    return getrusage(RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
