"""How well the criteria of `trak suspects` find wrong labels: AUC on ordinary and on memorised training sets.

OMP_NUM_THREADS=1 python scripts/experiments/suspects.py [SETTING ...]     runs/suspects, and docs/results/suspects*.csv

Every run trains three models on data of which a twentieth has a wrong label, ranks the training set by each criterion, and adds
a row for each to suspects.csv. Runs that are in the table already are skipped. suspects_means.csv has the means over the runs
of a setting, and the paired difference of left_out to the best of the other criteria, with a 95 % interval (Student's t).
suspects_rules.csv has the mean over settings of each order: those that choose (CHOOSE), and the others, which test the choice.
The ridge of left_out and the number of neighbours were chosen on digits, digits_memorised and cancer, with seed 0.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from suspects_data import SETTINGS, Array, write_project

from trak_cli.config.load import load
from trak_cli.results.suspects import suspects
from trak_cli.results.suspicion.ranking import rank
from trak_cli.stages.featurize import featurize
from trak_cli.stages.finalize import finalize
from trak_cli.stages.score import score
from trak_cli.stages.train import train
from trak_cli.store.layout import Layout
from trak_cli.types import Silent

FOLDER = Path(__file__).parents[2] / "docs" / "results"
RESULTS = FOLDER / "suspects.csv"
#: Settings that choose the order; the others test it.
CHOOSE = ("digits", "digits_memorised", "cancer", "cancer_memorised")
#: The orders that the store gives without combining.
SINGLE = ("loss", "margin", "self_influence", "harm", "harm_count")
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
                write(RESULTS, known)
    write(FOLDER / "suspects_means.csv", [means(name, known) for name in SETTINGS])
    write(FOLDER / "suspects_rules.csv", rules(known))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """Write a table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def of_setting(name: str, known: list[dict[str, str]], column: str = "auc") -> dict[str, Array]:
    """Criterion -> (runs,) values of a setting, in the order of the seeds."""
    rows = [row for row in known if row["setting"] == name]
    return {
        one: np.array([float(row[column]) for row in rows if row["criterion"] == one]) for one in {r["criterion"] for r in rows}
    }


def means(name: str, known: list[dict[str, str]]) -> dict[str, str]:
    """A setting in the table of means."""
    found = of_setting(name, known)
    best = max(SINGLE, key=lambda one: found[one].mean())
    difference = found["left_out"] - found[best]
    half = scipy.stats.t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / len(difference) ** 0.5
    return {
        "setting": name,
        "runs": str(len(difference)),
        "fitted": f"{of_setting(name, known, 'fitted')['left_out'].mean():.2f}",
        **{one: f"{values.mean():.4f}" for one, values in sorted(found.items())},
        "best": best,
        "difference": f"{difference.mean():+.4f}",
        "low": f"{difference.mean() - half:+.4f}",
        "high": f"{difference.mean() + half:+.4f}",
    }


def rules(known: list[dict[str, str]]) -> list[dict[str, str]]:
    """Each order with its mean AUC over the settings that choose, and over those that test."""
    auc = {name: of_setting(name, known) for name in SETTINGS}
    groups = {"choosing": list(CHOOSE), "testing": [name for name in SETTINGS if name not in CHOOSE]}
    orders = ("left_out", *SINGLE, *(" + ".join(criteria) for criteria in COMBINED))
    rows = [
        {
            "order": one,
            **{group: f"{np.mean([auc[name][one].mean() for name in names]):.4f}" for group, names in groups.items()},
        }
        for one in orders
    ]
    return sorted(rows, key=lambda row: -float(row["choosing"]))


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
