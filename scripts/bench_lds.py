"""The quality benchmark: twenty settings from raw data to the LDS of every method, as tables and pictures.

python scripts/bench_lds.py [SETTING ...] [--workers 2] [--no-peers]      (make lds)

Whatever is there already is kept: checkpoints, features, retrained models, predictions. Other libraries are measured on the
same checkpoints where they are installed (pip install '.[peers]'). Writes runs/lds/results.json, lds.png and compute.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "lds"))

import numpy as np
from costs import known_costs
from measure import ESTIMATORS, MASKS, Line, lines
from picture import draw
from setting import Setting, make_data, names, prepare

from trak_cli.attribution.lds.bootstrap import Bootstrap, Difference, bootstrap_interval, compare
from trak_cli.attribution.lds.ceiling import noise_ceiling

COUNTS = (1, 2, 5, 10)
FOLDER = Path("runs/lds")
EKFAC = "kronfluence EK-FAC"


def main() -> None:
    arguments = _arguments()
    chosen = arguments.settings or names()
    make_data()
    by_name = {}
    at_once = min(arguments.workers, len(chosen))
    with ProcessPoolExecutor(at_once, get_context("spawn")) as pool:
        # The dearest come last in the list, and begin first. Processes that have nothing else to do retrain side by side.
        asked = (not arguments.no_peers, arguments.resamples, arguments.workers // at_once)
        running = [pool.submit(_setting, name, *asked) for name in reversed(chosen)]
        for one in as_completed(running):
            result = one.result()
            show(result)
            by_name[result["setting"]] = result
    found = [by_name[name] for name in chosen]
    print(json.dumps(found, indent=1), file=(FOLDER / "results.json").open("w"))
    draw(found, FOLDER)
    overview(found)
    verdicts(found)


def _setting(name: str, peers: bool, resamples: int, workers: int) -> dict[str, Any]:
    """One setting, in a process of its own."""
    setting = prepare(name, workers)
    return measured(setting, lines(setting, COUNTS, peers), known_costs(setting, peers), resamples)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"of {', '.join(names())}; all of them by default")
    parser.add_argument("--workers", type=int, default=2, help="processes: settings at once")
    parser.add_argument("--no-peers", action="store_true", help="leave out other libraries")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap")
    return parser.parse_args()


def measured(setting: Setting, methods: list[Line], costs: dict[str, float], resamples: int) -> dict[str, Any]:
    """Everything about one setting, as JSON values."""
    masks, models = setting.truth
    truth = models.mean(axis=1)
    quick, exact = Bootstrap(resamples, rerank=False), Bootstrap(resamples, rerank=True)
    rows = []
    for line in methods:
        intervals = {count: bootstrap_interval(p, truth, quick) for count, p in line.predictions.items()}
        rows.append(
            {
                "label": line.label,
                "seconds": costs["train"] + costs.get(line.label, float("nan")),
                "lds": {count: [one.estimate, one.low, one.high] for count, one in intervals.items()},
            }
        )
    by_label = {line.label: line for line in methods}
    default, cheap = methods[0].label, f"{methods[0].label} + {MASKS} masks"
    paired = []
    for mine, count, label in (
        (default, 1, "traker"),
        (default, 5, _best(rows, EKFAC)),
        (default, 5, "cosine"),
        (cheap, 1, "traker"),
        (cheap, 1, _best(rows, EKFAC)),
    ):
        if label in by_label:
            pair = {f"{mine}@{count}": by_label[mine].predictions[count], f"{label}@10": by_label[label].predictions[10]}
            paired.append(_difference(compare(pair, truth, exact).differences[0]))
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
    """The variant of a library that is best here, told by the ground truth, which flatters it."""
    variants = [row for row in rows if row["label"].startswith(name)]
    return str(max(variants, key=lambda row: row["lds"][10][0])["label"]) if variants else ""


def _difference(found: Difference) -> dict[str, Any]:
    one = found.interval
    return {"of": [found.first, found.second], "mean": one.estimate, "low": one.low, "high": one.high, "p": found.p_value}


def show(result: dict[str, Any]) -> None:
    """One setting as a Markdown table."""
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


def overview(found: list[dict[str, Any]]) -> None:
    """Every method in every setting: LDS with one, five and ten checkpoints."""
    print("\n| LDS with 1 / 5 / 10 | " + " | ".join(result["setting"] for result in found) + " |")
    print("|---" * (len(found) + 1) + "|")
    for label in dict.fromkeys(row["label"] for result in found for row in result["methods"]):
        cells = []
        for result in found:
            rows = [row for row in result["methods"] if row["label"] == label]
            cells.append(
                " / ".join(_number(rows[0]["lds"][count][0]) if count in rows[0]["lds"] else "–" for count in (1, 5, 10))
                if rows
                else ""
            )
        print(f"| {label} | " + " | ".join(cells) + " |")
    print("| *noise ceiling* | " + " | ".join(_number(result["ceiling"]) for result in found) + " |")


def verdicts(found: list[dict[str, Any]]) -> None:
    """The default with few checkpoints against others with ten, on the same resamples."""
    print("\n| setting | ours | theirs | difference | 95 % interval | p |\n|---|---|---|---|---|---|")
    for result in found:
        for pair in result["paired"]:
            low, high = pair["low"], pair["high"]
            print(
                f"| {result['setting']} | {pair['of'][0]} | {pair['of'][1]} | {pair['mean']:+.3f} | {low:+.3f} to {high:+.3f}"
                f" | {pair['p']:.3f} |"
            )


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


if __name__ == "__main__":
    main()
