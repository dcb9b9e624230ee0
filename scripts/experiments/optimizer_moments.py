"""LDS of plain gradients, of estimated second moments and of the optimizer's own, on three small models trained by AdamW.

    python scripts/lds/data.py runs/lds/data
    python scripts/experiments/optimizer_moments.py            (or with the names of some settings)

Five checkpoints with the state of their optimizer, and two models on each of a hundred halves. The stores are
runs/optimizer_moments/SETTING_MOMENTS; the table is docs/results/optimizer_moments.csv, with the settings that were run.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import RecordingAdamW

from trak_cli.attribution.lds.bootstrap import Bootstrap, compare
from trak_cli.attribution.lds.lds import subset_predictions
from trak_cli.config.load import load
from trak_cli.stages.training.trainer_run import Training
from trak_cli.store.container import read_image
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

LDS = Path(__file__).parents[1] / "lds"
ROOT = Path("runs/optimizer_moments")
TABLE = Path(__file__).parents[2] / "docs" / "results" / "optimizer_moments.csv"

ADAMW = ["trainer=adamw", "trainer.weight_decay=0.01", "retrain.subsets=100", "retrain.models_per_subset=2"]

#: Setting of scripts/lds -> what differs from it.
SETTINGS = {
    "vit": ["dataset.train.train=600", "dataset.targets.test.train=600", "dataset.targets.test.targets=150"],
    "docstrings": ["trainer.epochs=15", "trainer.lr=2e-3"],
    "digits_mlp": ["trainer.epochs=15"],
}

#: Label in the table -> overrides.
MOMENTS = {
    "plain gradients": ["gradients.optimizer=sgd"],
    "estimated second moments": ["gradients.optimizer=adam", "gradients.moments=samples"],
    "the optimizer's own second moments": ["gradients.optimizer=adam", "gradients.moments=checkpoint"],
}

ESTIMATORS = {"early_training": "default", "cosine": "cosine of gradients"}

SEEDS = range(5)


def main() -> None:
    """All stages of the chosen settings, and their rows of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", choices=[[], *SETTINGS], help="default: all")
    chosen = parser.parse_args().settings or list(SETTINGS)
    torch.set_num_threads(1)
    rows = [row for setting in chosen for row in measure(setting)]
    with TABLE.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["estimator", "setting", "gradients", "lds", "low", "high", "gain", "gain_low", "gain_high"])
        writer.writerows(rows)


def measure(setting: str) -> Iterator[list[str]]:
    """The rows of one setting; ``gain`` is the difference to plain gradients on the same resamples."""
    truth = ROOT / setting
    overrides = [*ADAMW, *SETTINGS[setting]]
    call("retrain", setting, *overrides, f"store={truth}")
    checkpoints = train(setting, overrides, truth / "own")
    for label, more in MOMENTS.items():
        arguments = [*overrides, *more, f"store={store(setting, label)}", f"checkpoints={checkpoints}/*.pt"]
        call("featurize", setting, *arguments)
        call("finalize", setting, *arguments)
        for estimator in ESTIMATORS:
            call("score", setting, *arguments, f"estimator={estimator}")
    masks, outputs = ground_truth(Layout(truth))
    for estimator, name in ESTIMATORS.items():
        scores = {label: read_scores(Layout(store(setting, label)).scores(estimator, "test")) for label in MOMENTS}
        predictions = {label: subset_predictions(values, masks) for label, values in scores.items()}
        compared = compare(predictions, outputs, Bootstrap())
        gains = {}
        for one in compared.differences:
            if "plain gradients" in (one.first, one.second):
                gain = one if one.second == "plain gradients" else one.reversed()
                gains[gain.first] = gain.interval
            else:
                print(f"{setting}, {name}: {one.first} - {one.second}: {one.interval}, p = {one.p_value}")
        for label, interval in compared.sets.items():
            ends = [gains[label].estimate, gains[label].low, gains[label].high] if label in gains else []
            values = [interval.estimate, interval.low, interval.high]
            yield [
                name,
                setting,
                label,
                *(f"{value:.3f}" for value in values),
                *(f"{value:+.3f}" for value in ends or [0.0] * 3),
            ]


def store(setting: str, label: str) -> Path:
    return ROOT / f"{setting}_{label.split()[0].replace('the', 'own')}"


def train(setting: str, overrides: list[str], folder: Path) -> Path:
    """The folder of five checkpoints, each with the state of its optimizer."""
    loaded = load("train", setting, LDS, [*overrides, "trainer._target_=recording.RecordingAdamW", f"store={ROOT / setting}"])
    training = Training(loaded.config, torch.device("cpu"))
    folder.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        path = folder / f"full_{seed}.pt"
        if not path.exists():
            model = training.model(range(training.rows), seed)
            torch.save({"model": model.state_dict(), "optimizer": RecordingAdamW.last}, path)
    return folder


def ground_truth(layout: Layout) -> tuple[Any, Any]:
    """Masks of the subsets, and the mean outputs of the models trained on them."""
    images = [read_image(layout.retrained(subset)).arrays for subset in layout.retrained_subsets()]
    outputs = [image["outputs_test"] for image in images]
    return np.array([image["mask"] for image in images]), np.array(outputs).mean(axis=1)


def call(stage: str, setting: str, *overrides: str) -> None:
    """One call of the program."""
    command = [sys.executable, "-m", "trak_cli", stage, "-d", str(LDS), "-n", setting, *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
