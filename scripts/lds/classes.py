"""What the other classes earn: LDS of the default without them, with them, and with other weights, as CSV lines.

python scripts/lds/classes.py [SETTING ...] [--counts 1 5] >> docs/results/all_classes.csv

After scripts/bench_lds.py has prepared the settings. Default: those with three classes or more, and the reference digits.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import ours
from kernels import open_any
from reference import Reference, reference_settings
from setting import Features, Setting

from trak_cli.attribution.estimator.weights import ClassRows
from trak_cli.attribution.lds.lds import lds
from trak_cli.config.estimators import shipped_estimators

SETTINGS = ("iris", "wine", "travel", "words", "digits_mlp", "digits_cnn", "mnist_lenet")
COLUMNS = ("setting", "checkpoints", "without", "default", "simulated", "residuals")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", default=[*SETTINGS, *reference_settings()])
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 5])
    arguments = parser.parse_args()
    out = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    if sys.stdout.tell() == 0:
        out.writeheader()
    for name in arguments.settings:
        for row in measured(name, open_any(name), arguments.counts):
            out.writerow({key: value if isinstance(value, str | int) else f"{value:.3f}" for key, value in row.items()})
            sys.stdout.flush()


def measured(name: str, setting: Setting | Reference, counts: Sequence[int]) -> Iterator[dict[str, str | int | float]]:
    """One row for each number of checkpoints."""
    masks, models = setting.truth
    spec = shipped_estimators()["early_training"]
    parts: dict[str, list[ours.Part]] = {}
    for count, checkpoint in enumerate(setting.checkpoints[: max(counts)], start=1):
        for label, features in variants(setting.features(checkpoint)).items():
            parts.setdefault(label, []).append(ours.part(features, spec))
        if count in counts:
            found = {
                label: lds(ours.together(several, spec), masks, models.mean(axis=1)).mean for label, several in parts.items()
            }
            yield {"setting": name, "checkpoints": count, **found}


def variants(stored: Features) -> dict[str, Features]:
    """The features of one checkpoint with other residuals, whose geometric means with the simulated q are the weights."""
    if not isinstance(stored.curvature, ClassRows):
        raise SystemExit("no features of other classes: featurize again, with gradients.classes=null")
    found = {"without": replace(stored, curvature=None), "default": stored}
    simulated = ours.part(found["without"], shipped_estimators()["early_training"]).ratio
    for label, residuals in (("simulated", simulated), ("residuals", stored.curvature.residuals**2 / simulated)):
        found[label] = replace(stored, curvature=stored.curvature._replace(residuals=residuals.astype(np.float32)))
    return found


if __name__ == "__main__":
    main()
