"""How the default estimator was chosen: its constants varied, other ridges and other members of the family, on every setting.

python scripts/lds/choose.py [SETTING ...]      after scripts/bench_lds.py has prepared the settings

The settings are those of the benchmark, the reference digits, and the six of :data:`setting.UNTUNED`. Writes to docs/results:

- default_rules.csv: for every variant, its LDS relative to the best ridge of each setting: mean and worst over the settings;
- default_settings.csv: for every setting, the default, the best ridge and the best member with q of the checkpoint;
- default_left_out.csv: rules chosen with one setting left out, and their relative LDS on that setting.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kernels import CACHE, Kernels, kernels, truth
from reference import reference_settings
from setting import UNTUNED, names
from variants import BASE, DEFAULT, OLD, SHRINKAGES, WEIGHTINGS, Problem, Rule, Weighting, rules

from trak_cli.attribution.estimator.shrinkage import shrinkage_factor
from trak_cli.attribution.lds.lds import lds_of_predictions, subset_predictions

Array = np.ndarray[Any, Any]

COUNTS = (1, 5, 10)
RESULTS = Path("docs/results")


MEMBERS = ("dot", "cosine", "balanced", "trak")

#: setting -> count -> variant -> LDS
Results = dict[str, dict[str, dict[str, float]]]


def measure(name: str) -> dict[str, dict[str, float]]:
    """{count: {variant: LDS}}"""
    masks, outputs = truth(name)
    sums: dict[tuple[Weighting, str], Array] = {}
    samples: dict[Weighting, Array] = {}
    members: dict[str, tuple[Array, Array]] = {}
    cosines: Array = np.zeros(())
    found: dict[str, dict[str, float]] = {}
    by_pair = sorted({(rule.weighting, rule.ridge) for rule in rules()})
    for count, one in enumerate(kernels(name), start=1):
        cosines = cosines + one.cosines
        for weighting in WEIGHTINGS:
            if weighting != BASE and count > 5:
                continue
            problem = Problem(one, weighting)
            samples[weighting] = samples.get(weighting, 0.0) + problem.sample
            by_ridge: dict[float, Array] = {}
            for pair in by_pair:
                if pair[0] == weighting:
                    ridge = problem.ridge(pair[1])
                    by_ridge[ridge] = by_ridge[ridge] if ridge in by_ridge else problem.kernel(ridge)
                    sums[pair] = sums.get(pair, 0.0) + by_ridge[ridge]
        for label, (kernel, q) in _members(one).items():
            before = members.get(label, (0.0, 0.0))
            members[label] = (before[0] + kernel, before[1] + q)
        if count in COUNTS:
            row = found.setdefault(str(count), {})
            factors = {κ: shrinkage_factor(cosines / count, κ, count) if κ else 1.0 for κ in SHRINKAGES}
            for rule in rules():
                if rule.weighting == BASE or count <= 5:
                    scores = sums[rule.weighting, rule.ridge] * samples[rule.weighting] / count * factors[rule.shrinkage]
                    row[label_of(rule)] = lds_of_predictions(subset_predictions(scores, masks), outputs).mean
            for label, (kernel, q) in members.items():
                mean = q / count
                weight = np.sign(mean) * np.abs(mean) ** {"balanced": 0.5, "cosine": 0.0}.get(label, 1.0)
                row[label] = lds_of_predictions(subset_predictions(kernel * weight, masks), outputs).mean
    return found


def _members(one: Kernels) -> dict[str, tuple[Array, Array]]:
    """(kernel, q) of the members of the family with q of the checkpoint."""
    found = {"dot": (one.C, one.q), "cosine": (one.cosines, np.sign(one.q))}
    for label, w in (("balanced", np.abs(one.q)), ("trak", np.ones(len(one.q)))):
        root = np.sqrt(np.maximum(w, 1e-9))
        values, U = np.linalg.eigh(one.K * root[:, None] * root)
        ridge = float(w @ np.diag(one.K)) / len(w)
        found[label] = (((one.C * root) @ U / (values.clip(min=0) + ridge)) @ (U.T / root), one.q)
    return found


def label_of(rule: Rule) -> str:
    return f"{rule.weighting.window:g} {rule.weighting.clip:g} | {rule.ridge} | {rule.shrinkage:g}"


def described(rule: Rule) -> str:
    """A rule in words, as the tables show it."""
    clip = f"clip {rule.weighting.clip:g}" if rule.weighting.clip else "not clipped"
    ridge = rule.ridge if rule.ridge[-1] in "nw)" else f"{rule.ridge}n"
    return f"first {rule.weighting.window:.0%}, {clip}, κ = {rule.shrinkage:g}, {ridge}".replace("%", " %")


def measured(name: str) -> dict[str, dict[str, float]]:
    path = CACHE.parent / f"{name}.json"
    if not path.exists():
        print(f"{name}: every variant", file=sys.stderr, flush=True)
        path.write_text(json.dumps(measure(name)))
    return dict(json.loads(path.read_text()))


def base_ridges(row: dict[str, float]) -> float:
    """The LDS of the best ridge, the other choices being those of the default."""
    chosen = label_of(DEFAULT)
    start, end = chosen.split(" | ")[0], chosen.split(" | ")[2]
    return max(value for label, value in row.items() if label.startswith(f"{start} | ") and label.endswith(f" | {end}"))


def relative(results: Results, count: int) -> dict[str, Array]:
    """{variant: LDS over that of the best ridge, by setting}, of the variants that were measured everywhere."""
    rows = [result[str(count)] for result in results.values()]
    labels = [label for label in rows[0] if all(label in row for row in rows)]
    return {label: np.array([row[label] / base_ridges(row) for row in rows]) for label in labels}


#: Criteria for choosing a rule, computed from its relative LDS (settings,).
CRITERIA: dict[str, Callable[[Array], float]] = {
    "mean plus worst": lambda values: float(values.mean() + values.min()),
    "mean": lambda values: float(values.mean()),
    "mean of the worst three": lambda values: float(np.sort(values)[:3].mean()),
}


def left_out(results: Results, count: int = 5) -> Iterator[list[str]]:
    table = {label: values for label, values in relative(results, count).items() if " | R² " in label}
    labels, settings = list(table), list(results)
    in_words = {label_of(rule): described(rule) for rule in rules()}
    for criterion, judge in CRITERIA.items():
        chosen = max(labels, key=lambda label: judge(table[label]))
        there = []
        for column in range(len(settings)):
            without = {label: np.delete(values, column) for label, values in table.items()}
            there.append(table[max(labels, key=lambda label: judge(without[label]))][column])
        worst = int(np.argmin(there))
        mean, least = table[chosen].mean(), table[chosen].min()
        numbers = [f"{mean:.3f}", f"{least:.3f}", f"{np.mean(there):.3f}", f"{there[worst]:.3f}"]
        yield [criterion, in_words[chosen], *numbers, settings[worst]]


def by_rule(results: Results) -> Iterator[list[str]]:
    tables = {count: relative(results, count) for count in COUNTS}
    settings = list(results)
    for rule in dict.fromkeys((DEFAULT, *rules())):
        label = label_of(rule)
        row = [described(rule)]
        for count in COUNTS:
            values = tables[count].get(label)
            row += (
                ["", "", ""] if values is None else [f"{values.mean():.3f}", f"{values.min():.3f}", settings[values.argmin()]]
            )
        yield row


def by_setting(results: Results) -> Iterator[list[str]]:
    for name, result in results.items():
        row = [name]
        for count in COUNTS:
            found = result[str(count)]
            best = max(MEMBERS, key=lambda member: found[member])
            numbers = (found[label_of(DEFAULT)], found[label_of(Rule(BASE, OLD[0], 0.1))], base_ridges(found), found[best])
            row += [*(f"{number:.3f}" for number in numbers), best]
        yield row


def main() -> None:
    wanted = sys.argv[1:] or [*names(), *reference_settings(), *UNTUNED]
    results = {name: measured(name) for name in wanted}
    counted = [f"{what}_{count}" for count in COUNTS for what in ("mean", "worst", "where")]
    _write("default_rules", ["rule", *counted], by_rule(results))
    columns = [f"{what}_{count}" for count in COUNTS for what in ("default", "fixed", "best_ridge", "member", "which")]
    _write("default_settings", ["setting", *columns], by_setting(results))
    _write("default_left_out", ["criterion", "rule", "mean", "worst", "left_mean", "left_worst", "where"], left_out(results))


def _write(name: str, header: Sequence[str], rows: Iterator[list[str]]) -> None:
    with open(RESULTS / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
