"""The predictions of every method in a setting, Σ_{i∈S} score(i, j), computed once and kept beside the setting."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ours
import peers
from setting import Setting

from trak_cli.attribution import MEMBERS, WINDOW, EstimatorSpec, subset_predictions

Array = np.ndarray[Any, Any]

#: The members of the family in the table; the first is the default.
ESTIMATORS = ("trajectory", "balanced", "trak", "cosine", "dot")


@dataclass(frozen=True)
class Line:
    """One method in one setting.

    Attributes:
        label: what the table calls it.
        predictions: (t, s) by the number of checkpoints.
        seconds: for one checkpoint, training not counted.
    """

    label: str
    predictions: dict[int, Array]
    seconds: float


def lines(setting: Setting, counts: Sequence[int], with_peers: bool) -> list[Line]:
    """Every method, from its cache where the cache is of the same program, data and counts."""
    found = []
    for name in ESTIMATORS:
        spec = MEMBERS[name]
        found += _cached(
            setting, name, f"{spec} {spec.default_ridge} {WINDOW} {_made(setting)}", lambda s=spec: _ours(setting, s, counts)
        )
    if with_peers:
        for name, run in peers.available().items():
            if not peers.takes(name, setting):
                continue
            version = importlib.metadata.version(peers.PEERS[name][0] if name != "traker" else "traker")
            found += _cached(setting, name, f"{version} {_made(setting)}", lambda r=run, n=name: _theirs(setting, n, r, counts))
    return found


def _ours(setting: Setting, spec: EstimatorSpec, counts: Sequence[int]) -> list[Line]:
    masks, _ = setting.truth
    start = time.perf_counter()
    predictions = {count: subset_predictions(scores, masks) for count, scores in ours.scores(setting, spec, counts)}
    seconds = (time.perf_counter() - start) / max(counts) + setting.seconds().get("featurize", float("nan"))
    return [Line(spec.name, predictions, seconds)]


def _theirs(setting: Setting, name: str, run: peers.Peer, counts: Sequence[int]) -> list[Line]:
    """One line for each variant of a peer: its scores come by "VARIANT-COUNT", or by "COUNT" alone."""
    masks, _ = setting.truth
    found, seconds = run(setting, counts)
    variants: dict[str, dict[int, Array]] = {}
    for key, scores in found.items():
        variant, _, count = key.rpartition("-")
        variants.setdefault(variant, {})[int(count)] = subset_predictions(scores, masks)
    return [Line(f"{name}, {variant}" if variant else name, predictions, seconds) for variant, predictions in variants.items()]


def _made(setting: Setting) -> str:
    """Which checkpoints and which subsets: other ones make a cache stale."""
    masks, outputs = setting.truth
    return f"{'.'.join(setting.checkpoints)} {masks.shape} {outputs.shape} {float(outputs.sum())!r}"


def _cached(setting: Setting, name: str, made_from: str, compute: Any) -> list[Line]:
    path = setting.root / "bench" / f"{name.replace(' ', '_')}.npz"
    if path.exists():
        kept = _read(path, made_from)
        if kept is not None:
            return kept
    print(f"{setting.name}: {name}", file=sys.stderr, flush=True)
    found: list[Line] = compute()
    arrays = {f"{line.label}|{count}": array for line in found for count, array in line.predictions.items()}
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, made_from=np.array(made_from), seconds=np.array(found[0].seconds), **arrays)
    part.replace(path)
    return found


def _read(path: Path, made_from: str) -> list[Line] | None:
    with np.load(path) as kept:
        if str(kept["made_from"]) != made_from:
            return None
        by_label: dict[str, dict[int, Array]] = {}
        for key in kept.files:
            label, _, count = key.rpartition("|")
            if label:
                by_label.setdefault(label, {})[int(count)] = kept[key]
        return [Line(label, predictions, float(kept["seconds"])) for label, predictions in by_label.items()]
