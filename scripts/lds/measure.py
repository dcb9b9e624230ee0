"""The predictions of every method in a setting, Σ_{i∈S} score(i, j), computed once and stored with the setting."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ours
import peers
from setting import THIS_RUN, Setting, blended, scores_of_targets

from trak_cli import attribution
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.lds.lds import subset_predictions
from trak_cli.config.estimators import shipped_estimators

Array = np.ndarray[Any, Any]

#: Estimators in the table; the first is the default.
ESTIMATORS = ("early_training", "balanced", "trak", "cosine", "dot")

#: Stages whose scores are for chosen targets, under the protocol "this run".
CHOSEN_TARGETS = ("unroll", "refine")


@dataclass(frozen=True)
class Line:
    """One method in one setting.

    Attributes:
        label: its name in the table.
        predictions: number of checkpoints -> sums of scores (t, s).
    """

    label: str
    predictions: dict[int, Array]


def lines(setting: Setting, counts: Sequence[int], with_peers: bool, blends: Sequence[int]) -> list[Line]:
    """Every method under the protocol of the setting. A cached result is used if code and data are unchanged.

    Args:
        blends: numbers of blends with fresh weights of the first checkpoint; a line for each.
    """
    lines = []
    for name in ESTIMATORS:
        lines += _cached(setting, name, _features(setting), lambda n=name: _ours(setting, shipped_estimators()[n], counts))
    spec = shipped_estimators()[ESTIMATORS[0]]
    for number in blends:
        label = with_blends(spec.name, number)
        lines += _cached(setting, label, _features(setting), lambda n=number: [_blended(setting, spec, n)])
    if setting.protocol == THIS_RUN:
        for name in CHOSEN_TARGETS:
            lines += _cached(setting, name, _made(setting), lambda n=name: _of_chosen_targets(setting, n))
    if with_peers:
        for name, run in peers.available().items():
            if not peers.takes(name, setting):
                continue
            version = importlib.metadata.version(name.split()[0])
            lines += _cached(setting, name, f"{version} {_made(setting)}", lambda r=run, n=name: _theirs(setting, n, r, counts))
    return lines


def _ours(setting: Setting, spec: EstimatorSpec, counts: Sequence[int]) -> list[Line]:
    predictions = {count: _predictions(setting, scores) for count, scores in ours.scores(setting, spec, counts)}
    return [Line(spec.name, predictions)]


def _of_chosen_targets(setting: Setting, stage: str) -> list[Line]:
    """The scores of a stage that takes chosen targets; they are for these targets alone."""
    masks, _ = setting.truth
    return [Line(stage, {1: subset_predictions(scores_of_targets(setting, stage), masks)})]


def _predictions(setting: Setting, scores: Array) -> Array:
    """Sums of scores over the subsets, (targets, s), from scores of the whole split."""
    masks, _ = setting.truth
    return subset_predictions(scores[setting.target_rows], masks)


def _blended(setting: Setting, spec: EstimatorSpec, number: int) -> Line:
    """The default with one checkpoint and this many blends of it."""
    ((_, scores),) = ours.scores(blended(setting, number), spec, [1 + number])
    return Line(with_blends(spec.name, number), {1: _predictions(setting, scores)})


def with_blends(name: str, number: int) -> str:
    """The label of an estimator whose checkpoint has this many blends."""
    return f"{name} + {number} blends"


def _theirs(setting: Setting, name: str, run: peers.Peer, counts: Sequence[int]) -> list[Line]:
    """One line for each variant of a peer, whose scores have keys "VARIANT-COUNT" or "COUNT"."""
    scores_by_key, _ = run(setting, counts)
    variants: dict[str, dict[int, Array]] = {}
    for key, scores in scores_by_key.items():
        variant, _, count = key.rpartition("-")
        variants.setdefault(variant, {})[int(count)] = _predictions(setting, scores)
    return [Line(f"{name}, {variant}" if variant else name, predictions) for variant, predictions in variants.items()]


def _made(setting: Setting) -> str:
    """Identifies checkpoints and subsets; others make a cache stale."""
    masks, outputs = setting.truth
    return f"{'.'.join(setting.checkpoints)} {masks.shape} {outputs.shape} {float(outputs.sum())!r}"


def _features(setting: Setting) -> str:
    """Identifies the features and the code that computes scores from them."""
    projection = setting.loaded.config.projection
    return (
        f"{_code()} {_made(setting)} {projection.dim} {projection.seed}{f' {setting.curvature}' if setting.curvature else ''}"
    )


@functools.cache
def _code() -> str:
    """Digest of all source files of the estimators."""
    files = [Path(ours.__file__), *sorted(Path(attribution.__file__).parent.rglob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _cached(setting: Setting, name: str, made_from: str, compute: Any) -> list[Line]:
    path = setting.root / "bench" / f"{name.replace(' ', '_')}.npz"
    if path.exists():
        kept = _read(path, made_from)
        if kept is not None:
            return kept
    print(f"{setting.name}: {name}", file=sys.stderr, flush=True)
    lines: list[Line] = compute()
    arrays = {f"{line.label}|{count}": array for line in lines for count, array in line.predictions.items()}
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, made_from=np.array(made_from), **arrays)
    part.replace(path)
    return lines


def _read(path: Path, made_from: str) -> list[Line] | None:
    with np.load(path) as kept:
        if str(kept["made_from"]) != made_from:
            return None
        by_label: dict[str, dict[int, Array]] = {}
        for key in kept.files:
            label, _, count = key.rpartition("|")
            if label:
                by_label.setdefault(label, {})[int(count)] = kept[key]
        return [Line(label, predictions) for label, predictions in by_label.items()]
