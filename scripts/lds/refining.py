"""What `trak refine` adds: LDS of the default and of its refined scores, with the first 1 and 5 checkpoints, as CSV lines.

python scripts/lds/refining.py [SETTING ...] [--counts 1 5] [--targets 60] [--subsets 110] >> docs/results/refine.csv

After scripts/bench_lds.py has prepared the settings. A difference has the 95 % interval of a bootstrap over subsets and
targets, which ranks every resample again.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import ours
from setting import FOLDER, SPLIT, Setting, open_setting

from trak_cli.attribution.lds.bootstrap import Bootstrap, compare
from trak_cli.attribution.lds.lds import subset_predictions
from trak_cli.config.estimators import shipped_estimators
from trak_cli.stages.scoring.score_notes import read_notes
from trak_cli.store.json_files import read_json
from trak_cli.store.virtual import read_scores
from trak_cli.types import evenly_spaced


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        subsets, models: of the ground truth; models are those of one subset.
        parameters, dim: p and k.
        difference, low, high: refined minus default.
        iterations: mean over the systems.
        seconds: wall time of `trak refine`; NaN if its scores were there already.
    """

    setting: str
    checkpoints: int
    targets: int
    subsets: int
    models: int
    parameters: int
    dim: int
    default: float
    refined: float
    difference: float
    low: float
    high: float
    iterations: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", default=["words", "digits_cnn", "source"])
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--targets", type=int, default=60, help="evenly spaced targets, at most")
    parser.add_argument("--subsets", type=int, help="retrained subsets, at most; default: as many as the setting says")
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    out = csv.DictWriter(sys.stdout, list(Row.__annotations__))
    if sys.stdout.tell() == 0:
        out.writeheader()
    for name in arguments.settings:
        for row in measured(replace(open_setting(name), subsets=arguments.subsets), arguments):
            out.writerow({key: written(key, value) for key, value in asdict(row).items()})
            sys.stdout.flush()


def written(key: str, value: str | float) -> str | float:
    """A value as the CSV file has it: differences with a sign, LDS with three digits."""
    if not isinstance(value, float):
        return value
    return f"{value:+.3f}" if key in ("difference", "low", "high") else f"{value:.0f}" if key == "seconds" else f"{value:.3f}"


def measured(setting: Setting, arguments: argparse.Namespace) -> Iterator[Row]:
    """One row for each number of checkpoints."""
    masks, models = setting.truth
    targets = evenly_spaced(models.shape[2], arguments.targets)
    fingerprint = read_json(setting.layout.fingerprint(setting.checkpoints[0]))
    for count, scores in ours.scores(setting, shipped_estimators()["early_training"], arguments.counts):
        name = f"refined_{count}_{len(targets)}"
        seconds, iterations = refine(setting, count, name, targets.tolist())
        refined = read_scores(setting.layout.scores(name, SPLIT))
        sums = {"refined": subset_predictions(refined, masks), "default": subset_predictions(scores[targets], masks)}
        result = compare(sums, models.mean(axis=1)[:, targets], Bootstrap(arguments.resamples, rerank=True))
        (difference,) = result.differences
        yield Row(
            setting.name,
            count,
            len(targets),
            len(masks),
            models.shape[1],
            fingerprint["parameters"]["count"],
            fingerprint["projection"]["dim"],
            result.sets["default"].estimate,
            result.sets["refined"].estimate,
            difference.interval.estimate,
            difference.interval.low,
            difference.interval.high,
            iterations,
            seconds,
        )


def refine(setting: Setting, count: int, name: str, targets: list[int]) -> tuple[float, float]:
    """Run `trak refine` with the first ``count`` checkpoints: seconds, and the mean number of iterations."""
    seconds = float("nan")
    if not setting.layout.scores(name, SPLIT).exists():
        averaged = f"estimator.average_over=[{','.join(setting.checkpoints[:count])}]"
        for stage in ("finalize", "refine"):
            start = time.perf_counter()
            base = [sys.executable, "-m", "trak_cli", stage, "-d", str(FOLDER), "-n", setting.name]
            chosen = [averaged, f"refine.name={name}", f"refine.targets={targets}".replace(" ", "")]
            subprocess.run([*base, *chosen], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
    reports = read_notes(setting.layout, name, SPLIT)["checkpoints"]
    return seconds, sum(report["mean_iterations"] for report in reports) / len(reports)


if __name__ == "__main__":
    main()
