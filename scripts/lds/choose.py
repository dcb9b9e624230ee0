"""How the default estimator was chosen: every weighting and ridge on every setting, and choices with one setting left out.

python scripts/lds/choose.py [SETTING ...]      after scripts/bench_lds.py has prepared the settings

A rule is a weighting and a ridge. The unit of the ridge is x (mean diagonal of the Gram matrix), n (mean ‖x‖²) or w (trace of
the Gram matrix over the number of samples: the weighted mean ‖x‖²); "2w|0.3n" is the larger of two. The score of a rule in a
setting is its LDS divided by that of the best rule there. The script prints the mean and the lowest score of every rule over
the settings. Then, for several criteria, it chooses a rule with one setting left out and prints its score on that setting.

Sixteen of the twenty settings informed at least one choice of the default. Four had no part in any: travel, schools, visits
and functions were added after the last choice (the shrinkage). The order of the choices: weighting and ridge on cancer,
diabetes, digits_mlp, digits_cnn, patches, docstrings, noisy, source and the two sets of reference digits; clipping because of
cancer; shrinkage on all settings but these four.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from reference import reference_settings
from setting import Features, names, open_setting

from trak_cli.attribution.estimator.rows import clip_rows, median_length, unit_rows
from trak_cli.attribution.estimator.shrinkage import cosines, shrinkage_factor
from trak_cli.attribution.estimator.simulated_training import flow_rows, follows_log_loss, simulate
from trak_cli.attribution.lds.lds import lds_of_predictions, subset_predictions

Array = np.ndarray[Any, Any]

COUNTS = (1, 5)
WINDOWS = (0.03, 0.1, 0.15, 0.2, 0.3)
#: Thresholds for clipping training features, in units of their median norm.
CLIPS = (1.0, 1.5, 2.0)
#: κ, by which scores are shrunk.
SHRINKAGES = (0.0, 0.1, 0.2)
#: λ in units of w, a factor of 1.8 apart.
GRID = np.geomspace(0.03, 300, 17)
MULTIPLES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
#: (in w, in n): the larger of two.
PAIRS = tuple((w, n) for w in (1.0, 2.0, 3.0, 5.0) for n in (0.1, 0.2, 0.3, 0.5))
#: Criteria for choosing a rule, computed from relative LDS (rules, settings).
CRITERIA: dict[str, Callable[[Array], Array]] = {
    "mean plus worst": lambda table: table.mean(axis=1) + table.min(axis=1),
    "mean": lambda table: table.mean(axis=1),
    "mean less standard deviation": lambda table: table.mean(axis=1) - table.std(axis=1),
    "mean of the worst three": lambda table: np.sort(table, axis=1)[:, :3].mean(axis=1),
    "mean squared shortfall": lambda table: -((1 - table) ** 2).mean(axis=1),
}
CACHE = Path("runs/lds/choose")


def main() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    results = {name: measured(name) for name in sys.argv[1:] or [*names(), *reference_settings()]}
    rules, tables = relative_tables(results)
    for count in COUNTS:
        print(f"\n{count} checkpoint(s): LDS relative to the best rule of each setting\n")
        show(list(results), rules, tables[count])
    for judged in ((5,), COUNTS):
        numbers = " and ".join(map(str, judged))
        print(f"\nchosen by LDS with {numbers}; LDS with 5 checkpoints, mean and worst\n")
        show_left_out(list(results), rules, [tables[count] for count in judged], tables[5])


def measured(name: str) -> dict[str, Any]:
    """The LDS of a setting by weighting, ridge and number of checkpoints; read from the cache if it exists."""
    terms = name not in reference_settings() and open_setting(name).has_terms
    path = CACHE / f"{name}{'_terms' if terms else ''}.json"
    if not path.exists():
        print(f"{name}: every weighting and ridge", file=sys.stderr, flush=True)
        path.write_text(json.dumps(measure(name)))
    return dict(json.loads(path.read_text()))


def measure(name: str) -> dict[str, Any]:
    """{"lds": {weighting: {count: one for each ridge of GRID}}, "units": {weighting: {unit: in units of w}}}"""
    known = reference_settings()
    setting = known[name] if name in known else open_setting(name)
    masks, models = setting.truth
    truth = models.mean(axis=1)
    kernels: dict[str, list[Array]] = {}
    ratios_of: dict[str, list[Array]] = {}
    units: dict[str, dict[str, float]] = {}
    table: dict[str, dict[str, list[float]]] = {}
    alike: Array = np.zeros(())
    for number, checkpoint in enumerate(setting.checkpoints[: max(COUNTS)], start=1):
        features = setting.features(checkpoint)
        alike = alike + cosines(unit_rows(features.targets), features.train)
        dim = features.train.shape[1]
        for gram, stored, weights, members in weightings(compact(features)):
            add(kernels, gram, stored, curvature(stored, gram, weights), units, dim)
            for label, ratio in members.items():
                ratios_of.setdefault(label, []).append(ratio)
        if number in COUNTS:
            for label, ratios in ratios_of.items():
                gram, exponent = label.split(" a=")
                mean = np.mean(ratios, axis=0)
                weight = (np.where(mean < 0, -1.0, 1.0) * np.abs(mean) ** float(exponent)).astype(np.float32)
                for shrinkage in SHRINKAGES:
                    factor = weight * shrinkage_factor(alike / number, shrinkage, number) if shrinkage else weight
                    row = [lds_of_predictions(subset_predictions(k * factor, masks), truth).mean for k in kernels[gram]]
                    table.setdefault(f"{label} κ={shrinkage:g}", {})[str(number)] = row
    return {"lds": table, "units": units}


def weightings(stored: Features) -> Iterator[tuple[str, Features, Array, dict[str, Array]]]:
    """(Gram, features, their weights, {"Gram a=A": the ratios of sample weights}); a is the exponent of the mean ratio."""
    q = stored.out_to_loss.astype(np.float64)
    for b, exponents in ((0, ("0", "0.5", "1")), (1, ("0", "0.5", "1")), (2, ("1",))):
        yield f"q^{b}", stored, np.abs(q) ** b, {f"q^{b} a={a}": q for a in exponents}
    some = flow_rows(len(q))
    for clip in (None, *CLIPS):
        clipped = stored if clip is None else replace(stored, train=clip_rows(stored.train, clip * median_length(stored.train)))
        for window in WINDOWS:
            ratio, weights = q, np.ones(len(q))
            if follows_log_loss(stored.outputs, stored.out_to_loss):
                flow = simulate(clipped.train[some], stored.outputs[some], len(q), window)
                ratio = weights = flow.mean_q(clipped.train)
            gram = f"first {window:g}" + (f" clip {clip:g}" if clip else "")
            exponents = ("0.5", "1") if clip is None else ("1",)
            yield gram, clipped, weights, {f"{gram} a={a}": ratio for a in exponents}


def compact(stored: Features) -> Features:
    """The same features in coordinates of the span of the training features, if its dimension is smaller."""
    rows = stored.train if stored.terms is None else np.concatenate([stored.train, stored.terms.features])
    if rows.shape[0] >= rows.shape[1]:
        return stored
    left, values, right = np.linalg.svd(rows.astype(np.float64), full_matrices=False)
    parts = np.split(left * values, [len(stored.train)])
    terms = None if stored.terms is None else stored.terms._replace(features=parts[1])
    return replace(stored, train=parts[0], targets=stored.targets @ right.T, terms=terms)


def curvature(stored: Features, gram: str, weights: Array) -> tuple[Array, Array, float]:
    """What the Gram matrix sums over: rows (n, k), their weights (n,), and the number of samples or terms."""
    if stored.terms is None or not gram.startswith("first") or follows_log_loss(stored.outputs, stored.out_to_loss):
        return stored.train.astype(np.float64), weights, len(stored.train)
    return stored.terms.features.astype(np.float64), np.ones(len(weights)), float(stored.terms.counts.sum())


def add(
    kernels: dict[str, list[Array]],
    gram: str,
    stored: Features,
    summed: tuple[Array, Array, float],
    units: dict[str, dict[str, float]],
    k: int,
) -> None:
    """Add the kernel of a checkpoint to the sums, for every ridge; ``k`` is the number of features."""
    X, T = stored.train.astype(np.float64), stored.targets.astype(np.float64)
    Z, weights, n = summed
    squares = np.einsum("ik,ik->i", Z, Z)
    weighted = float(weights @ squares) / n  # w
    units.setdefault(gram, {"w": 1.0, "n": float(squares.sum()) / n / weighted, "x": n / k})
    values, vectors = np.linalg.eigh((Z.T * weights) @ Z)
    rows, columns = (T @ vectors), (X @ vectors).astype(np.float32)
    sums = kernels.setdefault(gram, [np.zeros((len(T), len(X)), np.float32) for _ in GRID])
    for total, ridge in zip(sums, GRID * weighted, strict=True):
        inverse = rows / (values.clip(min=0) + ridge)
        # Normalise targets in this metric. A factor per target remains, which does not change the LDS.
        lengths = np.sqrt(np.einsum("jk,jk->j", rows, inverse))
        inverse /= np.where(lengths == 0, 1.0, lengths)[:, None]
        total += inverse.astype(np.float32) @ columns.T


def relative_tables(results: dict[str, dict[str, Any]]) -> tuple[list[str], dict[int, Array]]:
    """The rules whose ridges are inside the grid in every setting, and their relative LDS (rules, settings) by count."""
    by_count = {count: relative(results, count) for count in COUNTS}
    rules = [rule for rule in by_count[1] if all(np.isfinite(values[rule]).all() for values in by_count.values())]
    return rules, {count: np.array([values[rule] for rule in rules]) for count, values in by_count.items()}


def show(names: list[str], rules: list[str], table: Array) -> None:
    order = np.argsort(-(table.mean(axis=1) + table.min(axis=1)))
    best_of: set[str] = set()
    print(f"{'rule':26s}{'mean':>6s}{'worst':>7s}  " + " ".join(f"{name[:10]:>10s}" for name in names))
    for i in order:
        weighting, _, ridge = rules[i].rpartition(" ")
        weighting += ridge[-1] + "|" * ("|" in ridge)
        if weighting in best_of:
            continue  # the best multiple of each weighting and unit is enough
        best_of.add(weighting)
        print(f"{rules[i]:26s}{table[i].mean():6.3f}{table[i].min():7.3f}  " + " ".join(f"{v:10.3f}" for v in table[i]))


def show_left_out(names: list[str], rules: list[str], judged: list[Array], table: Array) -> None:
    """Print, for each criterion, the rule chosen on all settings and the scores of rules chosen with one setting left out."""
    fixed = [i for i, rule in enumerate(rules) if rule.startswith("q^")]
    worst_case = table.min(axis=1)
    print(
        f"best worst case of any rule: {worst_case.max():.3f}; of those with q of the checkpoint: {worst_case[fixed].max():.3f}"
    )
    for criterion, judge in CRITERIA.items():
        i = int(np.argmax(judge(np.hstack(judged))))
        print(f"{criterion:31s} all: {table[i].mean():.3f} {table[i].min():.3f}  ({rules[i]})")
        there = [table[chosen_without(column, judge, judged), column] for column in range(len(names))]
        worst = ", ".join(f"{names[column]} {there[column]:.3f}" for column in np.argsort(there)[:3])
        print(f"{'':31s} the others: {np.mean(there):.3f}  {worst}")


def chosen_without(column: int, judge: Callable[[Array], Array], judged: list[Array]) -> int:
    return int(np.argmax(judge(np.hstack([np.delete(table, column, axis=1) for table in judged]))))


def relative(results: dict[str, dict[str, Any]], count: int) -> dict[str, list[float]]:
    """{rule: LDS over the best LDS of any rule, by setting}."""
    rules: dict[str, list[float]] = {}
    for one in results.values():
        best = max(max(row[str(count)]) for row in one["lds"].values())
        for label, row in one["lds"].items():
            units = one["units"][label.split(" a=")[0]]
            ridges = {f"{multiple:g}{unit}": multiple * size for unit, size in units.items() for multiple in MULTIPLES}
            ridges |= {f"{w:g}w|{n:g}n": max(w, n * units["n"]) for w, n in PAIRS}
            for ridge, size in ridges.items():
                at = np.interp(np.log(size), np.log(GRID), row[str(count)], np.nan, np.nan)
                rules.setdefault(f"{label}, {ridge}", []).append(float(at) / best)
    return rules


if __name__ == "__main__":
    main()
