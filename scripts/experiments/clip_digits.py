"""A counterfactual test of attributions for a CLIP model: retrain without the pairs with the highest scores.

    python scripts/experiments/clip_digits.py

Trains five small CLIP models, computes attributions, and retrains without 5 % of the training pairs for one target at a time:
the pairs with the highest scores, those with the closest embeddings (mean cosine of images and of captions), or random ones.
The fall of the target's output f measures how much the removed pairs matter. About ten minutes on one core; the store is
runs/clip_digits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stages import with_error

from trak_cli.config.load import Loaded, load
from trak_cli.plugins.checkpoints.files import find
from trak_cli.plugins.checkpoints.state import load as load_weights
from trak_cli.stages.inputs.plugins import make_collate, make_model, make_task
from trak_cli.stages.training.trainer_run import Training
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores
from trak_cli.types import TRAIN

FOLDER = Path(__file__).parent
SHARE = 0.05

Array = np.ndarray[Any, Any]


def main() -> None:
    """The whole experiment; figures as a table and as JSON in the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=20, help="targets whose pairs are removed, one at a time")
    parser.add_argument("--seeds", type=int, default=2, help="models retrained for each target and choice")
    arguments = parser.parse_args()
    start = time.perf_counter()
    torch.set_num_threads(1)
    for stage in ("train", "featurize", "finalize", "score"):
        command = [sys.executable, "-m", "trak_cli", stage, "-d", str(FOLDER), "-n", "clip_digits"]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    loaded = load("train", "clip_digits", FOLDER, ())
    results = counterfactual(loaded, arguments.targets, arguments.seeds)
    results["seconds"] = time.perf_counter() - start
    (Path(loaded.config.store) / "counterfactual.json").write_text(json.dumps(results, indent=2) + "\n")
    show(results)


def counterfactual(loaded: Loaded, count: int, seeds: int) -> dict[str, Any]:
    """How far f of each target falls when its 5 % are left out, by how the 5 % were chosen."""
    training = Training(loaded.config, torch.device("cpu"))
    targets = list(range(count))
    scores, similar = scores_of_default()[targets], similarity(loaded, training)[targets]
    removed = max(1, round(SHARE * training.rows))
    full = outputs(training, np.arange(training.rows), 5, seed=0)
    draw = np.random.default_rng(0)
    falls: dict[str, list[float]] = {"scores": [], "similarity": [], "random": []}
    # A random choice has nothing to do with the target: the same few models serve all of them.
    at_random = [np.sort(draw.permutation(training.rows)[removed:]) for _ in range(4)]
    lower = np.mean([outputs(training, kept, 1, seed=2000 + i) for i, kept in enumerate(at_random)], axis=0)
    for position, target in enumerate(targets):
        for name, ranking in (("scores", scores[position]), ("similarity", similar[position])):
            kept = np.sort(np.argsort(ranking, kind="stable")[: training.rows - removed])
            falls[name].append(float((full - outputs(training, kept, seeds, seed=1000))[target]))
        falls["random"].append(float((full - lower)[target]))
        print(f"target {target}: " + ", ".join(f"{name} {values[-1]:+.2f}" for name, values in falls.items()), flush=True)
    return {"removed": removed, "of": training.rows, "full": full[targets].tolist(), "falls": falls}


def outputs(training: Training, kept: Array, models: int, seed: int) -> Array:
    """f of all targets, (t,), the mean over some models trained on the pairs ``kept``."""
    results = [training.outputs(training.model(kept.tolist(), seed + i), "test") for i in range(models)]
    return np.mean(results, axis=0)


def scores_of_default() -> Array:
    """The scores of the default estimator, (t, n)."""
    config = load("score", "clip_digits", FOLDER, ()).config
    return read_scores(Layout(Path(config.store)).scores(config.estimator.name, "test"))


def similarity(loaded: Loaded, training: Training) -> Array:
    """Cosine of image embeddings plus cosine of caption embeddings, (t, n), the mean over the checkpoints."""
    config, total = loaded.config, np.zeros(())
    task, collate = make_task(config), make_collate(config)
    for path in find(config.checkpoints.files, loaded.base):
        model = make_model(config)
        model.load_state_dict(load_weights(path))
        model.eval()
        parts = {}
        for name, split in ((TRAIN, training.splits[TRAIN]), ("test", training.splits["test"])):
            with torch.no_grad():
                parts[name] = task.context(model, [collate([split[row] for row in range(len(split))])])
        one, other = parts["test"], parts[TRAIN]
        total = total + sum((one[key] @ other[key].T).numpy() for key in ("images", "captions"))
    return total


def show(results: dict[str, Any]) -> None:
    """Mean fall of f with its standard error over targets, and how often scores beat similarity."""
    print(f"\nretrained without {results['removed']} of {results['of']} pairs; fall of the target's f (mean ± standard error):")
    falls = {name: np.array(values) for name, values in results["falls"].items()}
    for name, values in falls.items():
        print(f"  {name:<11}{with_error(values)}")
    better = falls["scores"] - falls["similarity"]
    print(f"  scores − similarity {with_error(better)}, larger for {int((better > 0).sum())} of {len(better)} targets")
    print(f"mean f of the targets under the full training set {np.mean(results['full']):+.2f}; {results['seconds']:.0f} s")


if __name__ == "__main__":
    main()
