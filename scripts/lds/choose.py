"""How the default estimator was chosen: its constants varied, other ridges and other members of the family, on every setting.

python scripts/lds/choose.py [SETTING ...] [--checkpoints 10]      after scripts/bench_lds.py has prepared the settings

The settings are those of the benchmark, the reference digits, and those of :data:`setting.UNTUNED`. One checkpoint is the mean
over up to five checkpoints, each alone: single ones differ much (default_checkpoints.csv). Writes to docs/results:

- default_rules.csv: for every variant, its LDS relative to the best ridge of each setting: mean and worst over the settings;
- default_settings.csv: for every setting, the default, the best ridge and the best member with q of the checkpoint;
- default_checkpoints.csv: for every setting, the default with each checkpoint alone, and with all;
- default_tried.csv: for every setting, rules that looked better on those of :data:`CHOICE`;
- default_left_out.csv: rules chosen with one setting left out, and their relative LDS on that setting;
- default_oracle.csv: with one checkpoint, the default, the best of all variants and members by the ground truth, and EK-FAC
  with ten checkpoints.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from kernels import CACHE, Kernels, kernels, truth
from reference import reference_settings
from setting import UNTUNED, names
from tables import best_ekfac
from variants import BASE, BOUNDS, DEFAULT, WEIGHTINGS, WIENER, Problem, Rule, Weighting, fit, rules

from trak_cli.attribution.estimator.shrinkage import shrinkage_factor
from trak_cli.attribution.lds.lds import lds_of_predictions, subset_predictions

Array = np.ndarray[Any, Any]

COUNTS = (1, 5, 10)
#: Checkpoints that are measured alone, and all that variants of the weights are measured with.
FEW = 5
RESULTS = Path("docs/results")

MEMBERS = ("dot", "cosine", "balanced", "trak")

#: Settings on which the rules of :data:`TRIED` were chosen; the others tested them.
CHOICE = ("affairs", "visits", "schools", "travel", "cancer", "digits_mlp")
TRIED = {
    "default": DEFAULT.ridge,
    "larger_ridge": fit(0.4, 0.3),
    "larger_bound": fit(0.4, 1.0),
    "wiener": WIENER[-1],
}

#: setting -> count -> variant -> LDS; and under "alone", the number of a checkpoint -> LDS of the default.
Results = dict[str, dict[str, dict[str, float]]]


@dataclass
class _Sums:
    """Over checkpoints: kernels (t, n) by rule, and q (n,) of the samples by weighting."""

    kernels: dict[tuple[Weighting, str], Array] = field(default_factory=dict)
    samples: dict[Weighting, Array] = field(default_factory=dict)
    members: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    cosines: Array | float = 0.0
    count: int = 0

    def add(self, one: _Sums) -> None:
        """Add those of another checkpoint."""
        for key, kernel in one.kernels.items():
            self.kernels[key] = self.kernels.get(key, 0.0) + kernel
        for weighting, q in one.samples.items():
            self.samples[weighting] = self.samples.get(weighting, 0.0) + q
        for label, (kernel, q) in one.members.items():
            before = self.members.get(label, (0.0, 0.0))
            self.members[label] = (before[0] + kernel, before[1] + q)
        self.cosines = self.cosines + one.cosines
        self.count += one.count

    def scores(self, rule: Rule) -> Array:
        """(t, n) up to a factor."""
        scores = self.kernels[rule.weighting, rule.ridge] * self.samples[rule.weighting]
        if not rule.shrinkage:
            return scores
        return scores * shrinkage_factor(np.asarray(self.cosines) / self.count, rule.shrinkage, self.count)

    def measured(self, masks: Array, outputs: Array, weightings: Sequence[Weighting]) -> dict[str, float]:
        """{variant: LDS} of the rules with these weightings, and of the members."""
        found = {label_of(rule): _lds(self.scores(rule), masks, outputs) for rule in rules() if rule.weighting in weightings}
        for label, (kernel, q) in self.members.items():
            weight = np.sign(q) * np.abs(q) ** {"balanced": 0.5, "cosine": 0.0}.get(label, 1.0)
            found[label] = _lds(kernel * weight, masks, outputs)
        return found


def measure(name: str, checkpoints: int) -> dict[str, dict[str, float]]:
    """{count: {variant: LDS}}"""
    masks, outputs = truth(name)
    total, single, alone, found = _Sums(), [], [], {}
    for number, one in enumerate(kernels(name, checkpoints, FEW)):
        weightings = WEIGHTINGS if number < FEW else [BASE]
        sums = _of(one, weightings)
        total.add(sums)
        alone.append(_lds(sums.scores(DEFAULT), masks, outputs))
        if number < FEW:
            single.append(sums.measured(masks, outputs, weightings))
        if total.count in COUNTS[1:]:
            found[str(total.count)] = total.measured(masks, outputs, weightings)
    found["1"] = {label: float(np.mean([row[label] for row in single])) for label in single[0]}
    return found | {"alone": {str(number): value for number, value in enumerate(alone)}}


def _of(one: Kernels, weightings: Sequence[Weighting]) -> _Sums:
    """Of one checkpoint."""
    sums = _Sums(members=_members(one), cosines=one.cosines, count=1)
    for weighting in weightings:
        problem = Problem(one, weighting)
        sums.samples[weighting] = problem.sample
        known: dict[tuple[float, bool], Array] = {}
        for ridge in {rule.ridge for rule in rules() if rule.weighting == weighting}:
            key = problem.ridge(ridge), ridge in WIENER
            known[key] = known[key] if key in known else problem.kernel(ridge)
            sums.kernels[weighting, ridge] = known[key]
    return sums


def _lds(scores: Array, masks: Array, outputs: Array) -> float:
    return lds_of_predictions(subset_predictions(scores, masks), outputs).mean


def _members(one: Kernels) -> dict[str, tuple[Array, Array]]:
    """(kernel, q) of the members of the family with q of the checkpoint."""
    K, C = one.K[: one.n, : one.n], one.C[:, : one.n]
    found = {"dot": (C, one.q), "cosine": (one.cosines, np.sign(one.q))}
    for label, w in (("balanced", np.abs(one.q)), ("trak", np.ones(len(one.q)))):
        root = np.sqrt(np.maximum(w, 1e-9))
        values, U = np.linalg.eigh(K * root[:, None] * root)
        ridge = float(w @ np.diag(K)) / len(w)
        found[label] = (((C * root) @ U / (values.clip(min=0) + ridge)) @ (U.T / root), one.q)
    return found


def label_of(rule: Rule) -> str:
    return f"{rule.weighting.window:g} {rule.weighting.clip:g} | {rule.ridge} | {rule.shrinkage:g}"


def described(rule: Rule) -> str:
    """A rule in words, as the tables show it."""
    clip = f"clip {rule.weighting.clip:g}" if rule.weighting.clip else "not clipped"
    ridge = rule.ridge if rule.ridge in BOUNDS or rule.ridge[-1] in "nw)" else f"{rule.ridge}n"
    return f"first {rule.weighting.window:.0%}, {clip}, κ = {rule.shrinkage:g}, {ridge}".replace("%", " %")


def in_words() -> dict[str, str]:
    """Label -> the rule in words."""
    return {label_of(rule): described(rule) for rule in rules()}


def measured(name: str, checkpoints: int) -> dict[str, dict[str, float]]:
    path = CACHE.parent / f"{name}.json"
    if not path.exists():
        print(f"{name}: every variant", file=sys.stderr, flush=True)
        path.write_text(json.dumps(measure(name, checkpoints)))
    return dict(json.loads(path.read_text()))


def base_ridges(row: dict[str, float]) -> float:
    """The LDS of the best ridge, the other choices being those of the default."""
    chosen = label_of(DEFAULT)
    start, end = chosen.split(" | ")[0], chosen.split(" | ")[2]
    ridges = {label: value for label, value in row.items() if label not in {label_of(Rule(BASE, rule, 0.1)) for rule in WIENER}}
    return max(value for label, value in ridges.items() if label.startswith(f"{start} | ") and label.endswith(f" | {end}"))


def relative(results: Results, count: int) -> tuple[list[str], dict[str, Array]]:
    """The settings with that many checkpoints, and {variant: LDS over that of the best ridge, by setting}."""
    rows = {name: result[str(count)] for name, result in results.items() if str(count) in result}
    labels = dict.fromkeys(label for row in rows.values() for label in row)
    by_all = [label for label in labels if all(label in row for row in rows.values())]
    return list(rows), {label: np.array([row[label] / base_ridges(row) for row in rows.values()]) for label in by_all}


#: Criteria for choosing a rule, computed from its relative LDS (settings,).
CRITERIA: dict[str, Callable[[Array], float]] = {
    "mean plus worst": lambda values: float(values.mean() + values.min()),
    "mean": lambda values: float(values.mean()),
    "mean of the worst three": lambda values: float(np.sort(values)[:3].mean()),
}


def left_out(results: Results, count: int = 5) -> Iterator[list[str]]:
    settings, every = relative(results, count)
    if not settings:
        return
    table = {label: values for label, values in every.items() if " | R² " in label}
    labels = list(table)
    words = in_words()
    for criterion, judge in CRITERIA.items():
        chosen = max(labels, key=lambda label: judge(table[label]))
        there = []
        for column in range(len(settings)):
            without = {label: np.delete(values, column) for label, values in table.items()}
            there.append(table[max(labels, key=lambda label: judge(without[label]))][column])
        worst = int(np.argmin(there))
        mean, least = table[chosen].mean(), table[chosen].min()
        numbers = [f"{mean:.3f}", f"{least:.3f}", f"{np.mean(there):.3f}", f"{there[worst]:.3f}"]
        yield [criterion, words[chosen], *numbers, settings[worst]]


def by_rule(results: Results) -> Iterator[list[str]]:
    tables = {count: relative(results, count) for count in COUNTS}
    for rule in dict.fromkeys((DEFAULT, *rules())):
        row = [described(rule)]
        for settings, table in tables.values():
            values = table.get(label_of(rule))
            row += (
                ["", "", ""] if values is None else [f"{values.mean():.3f}", f"{values.min():.3f}", settings[values.argmin()]]
            )
        yield row


def by_setting(results: Results) -> Iterator[list[str]]:
    for name, result in results.items():
        row = [name]
        for count in COUNTS:
            if str(count) not in result:
                row += [""] * 4
                continue
            found = result[str(count)]
            best = max(MEMBERS, key=lambda member: found[member])
            row += [*(f"{number:.3f}" for number in (found[label_of(DEFAULT)], base_ridges(found), found[best])), best]
        yield row


def by_checkpoint(results: Results) -> Iterator[list[str]]:
    for name, result in results.items():
        alone = list(result["alone"].values())
        if len(alone) < 2:
            continue
        last = str(len(alone))
        together = f"{result[last][label_of(DEFAULT)]:.3f}" if last in result else ""
        numbers = (alone[0], np.mean(alone), np.std(alone), min(alone), max(alone))
        yield [name, last, *(f"{number:.3f}" for number in numbers), together]


def tried(results: Results) -> Iterator[list[str]]:
    for name, result in sorted(results.items(), key=lambda item: item[0] not in CHOICE):
        row = [name, "choice" if name in CHOICE else "test"]
        for label in (label_of(Rule(BASE, ridge, 0.1)) for ridge in TRIED.values()):
            row += [f"{result[str(count)][label]:.3f}" if str(count) in result else "" for count in (1, 10)]
        yield row


def oracle(results: Results) -> Iterator[list[str]]:
    others, words = best_ekfac(RESULTS / "lds.csv"), in_words()
    for name, result in results.items():
        if name in others:
            found = result["1"]
            label = max(found, key=lambda one: found[one])
            numbers = (found[label_of(DEFAULT)], found[label], others[name])
            yield [name, *(f"{number:.3f}" for number in numbers), words.get(label, label)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", default=[*names(), *reference_settings(), *UNTUNED])
    parser.add_argument("--checkpoints", type=int, default=10, help="of a setting that was not measured before")
    arguments = parser.parse_args()
    results = {name: measured(name, arguments.checkpoints) for name in arguments.settings}
    counted = [f"{what}_{count}" for count in COUNTS for what in ("mean", "worst", "where")]
    _write("default_rules", ["rule", *counted], by_rule(results))
    columns = [f"{what}_{count}" for count in COUNTS for what in ("default", "best_ridge", "member", "which")]
    _write("default_settings", ["setting", *columns], by_setting(results))
    columns = ["setting", "checkpoints", "first", "mean", "sd", "smallest", "largest", "together"]
    _write("default_checkpoints", columns, by_checkpoint(results))
    columns = [f"{what}_{count}" for what in TRIED for count in (1, 10)]
    _write("default_tried", ["setting", "group", *columns], tried(results))
    _write("default_left_out", ["criterion", "rule", "mean", "worst", "left_mean", "left_worst", "where"], left_out(results))
    _write("default_oracle", ["setting", "default", "best", "ekfac_10", "which"], oracle(results))


def _write(name: str, header: Sequence[str], rows: Iterator[list[str]]) -> None:
    with open(RESULTS / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
