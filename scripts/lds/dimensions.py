"""The LDS of the default estimator by projection kind and number of columns.

python scripts/lds/dimensions.py [SETTING ...] [--seeds 1]      after scripts/bench_lds.py has prepared the settings

Without names: the reference digits, if they are next to the repository.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import ours
import torch
from projected import Batches, projected
from reference import Reference, reference_settings
from setting import Setting, open_setting
from torch import nn

from trak_cli.attribution.lds.lds import lds_of_predictions, subset_predictions
from trak_cli.config.estimators import shipped_estimators
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.stages.inputs.plugins import make_components, make_model
from trak_cli.tasks import Task

Array = np.ndarray[Any, Any]

COUNTS = (1, 2, 5)
KINDS = (
    *(("sjlt", dim, 4) for dim in (512, 1024, 2048, 4096, 8192)),
    ("sjlt", 4096, 1),
    ("sjlt", 4096, 8),
    ("rademacher", 1024, 1),
    ("rademacher", 4096, 1),
    ("gaussian", 4096, 1),
    ("none", 0, 1),
)
BATCH = 200
SPEC = shipped_estimators()["early_training"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="SETTING")
    parser.add_argument("--seeds", type=int, default=1, help="projection seeds to average over")
    arguments = parser.parse_args()
    known = reference_settings()
    for name in arguments.settings or known:
        table(name, known[name] if name in known else open_setting(name), arguments.seeds)


def table(name: str, setting: Setting | Reference, seeds: int) -> None:
    """Print the LDS with 1, 2 and 5 checkpoints for every kind."""
    masks, models = setting.truth
    truth = models.mean(axis=1)
    print(f"\n{name}\n\n| kind | k | {' | '.join(map(str, COUNTS))} |\n|---|---|{'---|' * len(COUNTS)}", flush=True)
    model, task, batches, files = parts_of(setting)
    parts: dict[Any, list[ours.Part]] = {}
    by_key: dict[Any, list[float]] = {}
    for number, path in enumerate(files[: max(COUNTS)], start=1):
        apply(model, load(path), path)
        for key, features in projected(model, task, batches, sha256(path), KINDS, seeds):
            parts.setdefault(key, []).append(ours.part(features, SPEC))
            if number in COUNTS:
                scores = ours.together(parts[key], SPEC)
                by_key.setdefault(key, []).append(lds_of_predictions(subset_predictions(scores, masks), truth).mean)
    for kind, dim, nonzeros in KINDS:
        rows = [values for key, values in by_key.items() if key[:3] == (kind, dim, nonzeros)]
        shown = " | ".join(f"{value:.3f}".lstrip("0") for value in np.mean(rows, axis=0))
        print(f"| {kind}{f' s = {nonzeros}' if kind == 'sjlt' else ''} | {dim or ''} | {shown} |", flush=True)


def parts_of(setting: Setting | Reference) -> tuple[nn.Module, Task, Batches, list[Any]]:
    """Model, task, batches of the training and the target samples, and the checkpoint files."""
    if isinstance(setting, Reference):
        return setting.parts()
    parts = make_components(setting.loaded.config, torch.device("cpu"))
    batches = {
        split: [
            parts.collate([data[i] for i in range(start, min(start + BATCH, len(data)))])
            for start in range(0, len(data), BATCH)
        ]
        for split, data in parts.splits.items()
    }
    model = make_model(setting.loaded.config).eval()
    return model, parts.task, batches, [setting.checkpoint_file(name) for name in setting.checkpoints]


if __name__ == "__main__":
    main()
