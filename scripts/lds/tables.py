"""The tables of the benchmark: Markdown on stdout, and CSV files in the form of docs/results."""

from __future__ import annotations

import csv
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import numpy as np
from comparison import holm, paired_summary
from setting import HALVES

from trak_cli.attribution.lds.bootstrap import PValue

Result = dict[str, Any]

#: Columns of the CSV files, which begin with the setting and, where results have one, the protocol.
_COSTS = ("setting", "method", "seconds")
_LDS = ("setting", "protocol", "method", "checkpoints", "lds", "low", "high")
_DIFFERENCES = (
    *("setting", "protocol", "method", "checkpoints", "other", "other_checkpoints", "compared_with"),
    *("difference", "low", "high", "p_value"),
)


def show(result: Result, default: str) -> None:
    """Print one setting under one protocol."""
    counts = sorted({count for row in result["methods"] for count in row["lds"]})
    print(
        f"\n**{result['setting']}**, {result['protocol']}: {result['samples']} samples, {result['targets']} targets,"
        f" {result['subsets']} subsets of {result['models']} models; noise ceiling {number(result['ceiling'])}\n"
    )
    print("| method | " + " | ".join(map(str, counts)) + " | 95 % interval at 1 | CPU s / checkpoint |")
    print("|---" * (len(counts) + 3) + "|")
    for row in result["methods"]:
        values = [number(row["lds"][count][0]) if count in row["lds"] else "" for count in counts]
        _, low, high = row["lds"][1]
        label = f"**{row['label']}**" if row["label"] == default else row["label"]
        print(f"| {label} | {' | '.join(values)} | {number(low)} to {number(high)} | {number(row['seconds'], 1)} |")
    sys.stdout.flush()


def overview(results: list[Result]) -> None:
    """Print the LDS of every method in every setting with one, five and ten checkpoints."""
    labels = list(dict.fromkeys(row["label"] for result in results for row in result["methods"]))
    print(f"\n| LDS, {results[0]['protocol']}, with 1 / 5 / 10 | {' | '.join(labels)} | *noise ceiling* |")
    print("|---" * (len(labels) + 2) + "|")
    for result in results:
        lds = {row["label"]: row["lds"] for row in result["methods"]}
        cells = [
            " / ".join(number(lds[label][count][0]) for count in (1, 5, 10) if count in lds[label]) if label in lds else ""
            for label in labels
        ]
        print(f"| {result['setting']} | {' | '.join(cells)} | {number(result['ceiling'])} |")


def show_comparisons(results: list[Result]) -> None:
    """Print the paired comparisons of one protocol: a summary over settings, then each setting.

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


def show_times(results: list[Result], total: float) -> None:
    """Print the CPU seconds of every setting in this run: models and features, then scores of all methods."""
    print("\n| CPU seconds | protocol | models and features | methods |\n|---|---|---|---|")
    for result in results:
        seconds = result["seconds"]
        print(f"| {result['setting']} | {result['protocol']} | {seconds['models']:.0f} | {seconds['methods']:.0f} |")
    cpu = sum(sum(result["seconds"].values()) for result in results)
    settings = len({result["setting"] for result in results})
    print(f"\n{total / 60:.0f} minutes for {settings} settings; {cpu / 60:.0f} CPU minutes")


def write_csv(results: list[Result], folder: Path, order: list[str]) -> None:
    """Write lds.csv, lds_differences.csv and lds_costs.csv; rows of settings that were not measured now are kept.

    Args:
        order: of the settings in the files.
    """
    lds, differences, costs = [], [], []
    for result in results:
        where = {"setting": result["setting"], "protocol": result["protocol"]}
        for row in result["methods"]:
            for count, values in row["lds"].items():
                numbers = dict(zip(("lds", "low", "high"), map(number, values), strict=True))
                lds.append({**where, "method": _name(row["label"]), "checkpoints": count, **numbers})
            if row["seconds"] == row["seconds"]:
                costs.append({"setting": result["setting"], "method": _name(row["label"]), "seconds": number(row["seconds"])})
        if result["ceiling"] == result["ceiling"]:
            lds.append({**where, "method": "noise ceiling", "checkpoints": "", "lds": number(result["ceiling"])})
        for pair in result["paired"]:
            (mine, count), (other, others) = (label.rsplit("@", 1) for label in pair["of"])
            methods = {"method": _name(mine), "checkpoints": count, "other": _name(other), "other_checkpoints": others}
            against = {"compared_with": _name(pair["comparison"][1].rsplit("@", 1)[0])}
            numbers = {"difference": pair["mean"], "low": pair["low"], "high": pair["high"], "p_value": pair["p"]}
            differences.append({**where, **methods, **against, **{key: number(value) for key, value in numbers.items()}})
    for name, rows, columns in (
        ("lds.csv", lds, _LDS),
        ("lds_differences.csv", differences, _DIFFERENCES),
        ("lds_costs.csv", costs, _COSTS),
    ):
        _replace_rows(folder / name, rows, columns, order)


def _replace_rows(path: Path, rows: list[dict[str, Any]], columns: tuple[str, ...], order: list[str]) -> None:
    """Replace the rows of a file whose setting and protocol are among those of ``rows``."""
    measured = {(row["setting"], row.get("protocol")) for row in rows}
    stored = read_csv(path) if path.exists() else []
    kept = [row for row in stored if (row["setting"], row.get("protocol")) not in measured]
    places = {name: place for place, name in enumerate(order)}
    everything = sorted([*kept, *rows], key=lambda row: places.get(row["setting"], len(places)))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(everything)


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file, as text."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def best_ekfac(path: Path) -> dict[str, float]:
    """Setting -> LDS of EK-FAC with ten checkpoints under halves, the best of its dampings, from lds.csv."""
    best: dict[str, float] = {}
    for row in read_csv(path):
        if row["protocol"] == HALVES and row["method"].startswith("EK-FAC") and row["checkpoints"] == "10":
            best[row["setting"]] = max(best.get(row["setting"], -1.0), float(row["lds"]))
    return best


def number(value: float, decimals: int = 3) -> str:
    """Three decimals, "0.246"; "" for NaN."""
    return "" if np.isnan(value) else f"{value:.{decimals}f}"


def _name(label: str) -> str:
    """The name of a method in the CSV files."""
    for peer, package in (("traker", "traker"), ("dattri TRAK", "dattri")):
        if label == peer:
            return f"{package} {importlib.metadata.version(package)}"
    ekfac = label.replace("best kronfluence EK-FAC", "EK-FAC, best of three dampings").replace(
        "kronfluence EK-FAC, ", "EK-FAC "
    )
    return ekfac.replace("EK-FAC default", "EK-FAC 1e-8").replace(" + ", " with ")


def _p_value(pair: dict[str, Any]) -> PValue:
    return PValue(pair["p"], pair["p_is_upper_bound"])
