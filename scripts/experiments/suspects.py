"""How well the criteria of `trak suspects` find wrong labels: AUC on ordinary and on memorised training sets.

OMP_NUM_THREADS=1 python scripts/experiments/suspects.py [SETTING ...]     runs/suspects, and docs/results/suspects.csv

Every run trains three models on data of which a twentieth has a wrong label, ranks the training set by each criterion, and adds
a row for each to the table. Settings that are in the table already are skipped. The ridge of left_out and the number of
neighbours were chosen on digits, digits_memorised and cancer; the other settings confirm them.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from suspects_data import SETTINGS, Array, write_project

from trak_cli.config.load import load
from trak_cli.results.suspects import rank, suspects
from trak_cli.stages.featurize import featurize
from trak_cli.stages.finalize import finalize
from trak_cli.stages.score import score
from trak_cli.stages.train import train
from trak_cli.store.layout import Layout
from trak_cli.types import Silent

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "suspects.csv"
COLUMNS = ("setting", "seed", "training", "wrong", "fitted", "criterion", "auc", "found", "right")
#: Criteria that are combined by the mean of their ranks.
COMBINED = (("left_out", "loss"), ("left_out", "harm"), ("left_out", "loss", "self_influence", "harm"))
STAGES: tuple[Callable[..., Any], ...] = (train, featurize, finalize, score)


def main() -> None:
    known = list(csv.DictReader(RESULTS.open())) if RESULTS.exists() else []
    for name in sys.argv[1:] or SETTINGS:
        for seed in range(SETTINGS[name].seeds):
            if not any(row["setting"] == name and row["seed"] == str(seed) for row in known):
                known += measure(name, seed)
                order = list(SETTINGS)
                known.sort(key=lambda row: (order.index(row["setting"]), int(row["seed"])))
                with RESULTS.open("w", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(known)


def measure(name: str, seed: int) -> list[dict[str, str]]:
    """The rows of one run in the table."""
    folder = Path("runs/suspects") / f"{name}_{seed}"
    right = write_project(folder, name, seed)
    rows = np.array(sorted(right))
    configured = partial(load, config_name=name, config_dir=folder, overrides=[])
    if not Layout(folder / "store").scores("early_training", "test").exists():
        for stage in STAGES:
            stage(configured(stage.__name__), Silent())
    loaded = configured("suspects")
    ranking = rank(loaded, Silent())
    fitted = float((ranking.values["margin"][rows] > 0).mean())
    common = {"setting": name, "seed": seed, "training": ranking.rows, "wrong": len(rows), "fitted": f"{fitted:.2f}"}
    listed = suspects(loaded, Silent(), k=len(rows)).suspects
    proposed = sum(one.proposed == right.get(one.row, -1) for one in listed)
    table = []
    orders = {criterion: ranking.order(criterion) for criterion in ranking.values}
    for criteria in COMBINED:
        orders[" + ".join(criteria)] = np.argsort(sum(orders[one].argsort() for one in criteria), kind="stable")
    for criterion, order in orders.items():
        found = int(np.isin(order[: len(rows)], rows).sum())
        measured = {"criterion": criterion, "auc": f"{auc(order, rows):.4f}", "found": found}
        table.append({**common, **measured, "right": proposed if criterion == "left_out" else ""})
    print(name, seed, *(f"{row['criterion']} {row['auc']}" for row in table), flush=True)
    return [{key: str(value) for key, value in row.items()} for row in table]


def auc(order: Array, wrong: Array) -> float:
    """The share of pairs of a wrong and a correct label whose wrong one comes first in the order."""
    first = np.isin(order, wrong)
    return float((first.cumsum()[~first]).sum() / (first.sum() * (~first).sum()))


if __name__ == "__main__":
    main()
