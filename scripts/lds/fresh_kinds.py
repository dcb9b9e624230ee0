"""Other ways to make the kernel of one checkpoint less noisy, with exact gradients of small MLPs.

python scripts/lds/fresh_kinds.py [SETTING ...]      after scripts/lds/choose.py, whose kernels and simulated trainings it reads

Writes docs/results/fresh_kinds.csv: the mean LDS of three checkpoints, each with eight members of a kind. Members have the
outputs of their checkpoint unless the kind says otherwise, and every other choice of the default.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from blocks import SETTINGS, Layer, Weights, gradients, weights
from kernels import Kernels, kernels, open_any, simulated, truth
from setting import Setting
from variants import BASE, DEFAULT, Problem

from trak_cli.attribution.estimator.shrinkage import shrinkage_factor
from trak_cli.attribution.lds.lds import lds_of_predictions, subset_predictions

Array = np.ndarray[Any, Any]

STARTS, MEMBERS, ALL = 3, 8, 10

#: A member's weights, from those of the checkpoint and fresh ones.
Blend = Callable[[Weights, Weights, np.random.Generator], Weights]


def blended(share: float) -> Blend:
    """Of the variance, this share is fresh."""
    return lambda own, new, _: _pairs(lambda a, b: (1 - share) ** 0.5 * a + share**0.5 * b, own, new)


def _pairs(one: Callable[[Array, Array], Array], own: Weights, new: Weights) -> Weights:
    return [(one(w, v), one(b, c)) for (w, b), (v, c) in zip(own, new, strict=True)]


def noise(scale: float) -> Blend:
    """``ensemble.kind=noise``."""

    def of(own: Weights, _: Weights, random: np.random.Generator) -> Weights:
        return _pairs(lambda a, _: a + scale * (a**2).mean() ** 0.5 * random.standard_normal(a.shape), own, own)

    return of


def mask(scale: float) -> Blend:
    """``ensemble.kind=mask``."""

    def of(own: Weights, _: Weights, random: np.random.Generator) -> Weights:
        return [(w * (random.random(w.shape) >= scale) / (1 - scale), b) for w, b in own]

    return of


KINDS: dict[str, Blend] = {
    "fresh 0.25": blended(0.25),
    "fresh 0.5": blended(0.5),
    "fresh 0.75": blended(0.75),
    "fresh 1": blended(1.0),
    "first layer fresh": lambda own, new, _: [new[0], *own[1:]],
    "last layer fresh": lambda own, new, _: [*own[:-1], new[-1]],
    "noise 0.3": noise(0.3),
    "noise 1": noise(1.0),
    "mask 0.1": mask(0.1),
    "mask 0.3": mask(0.3),
}


def main() -> None:
    with Path("docs/results/fresh_kinds.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["setting", "kind", "lds"])
        for name in sys.argv[1:] or SETTINGS:
            for kind, values in measured(name).items():
                out.writerow([name, kind, f"{np.mean(values):.3f}"])


def measured(name: str) -> dict[str, list[float]]:
    """LDS by kind, of each starting checkpoint."""
    setting = open_any(name)
    assert isinstance(setting, Setting)
    masks, outputs = truth(name)
    stored = list(kernels(name, ALL, 0))
    exact = [replace(one, **products(setting, weights(setting, number))) for number, one in enumerate(stored)]

    def lds(parts: Sequence[Kernels]) -> float:
        problems = [Problem(one, BASE) for one in parts]
        kernel = np.mean([problem.kernel(DEFAULT.ridge) for problem in problems], axis=0)
        factor = shrinkage_factor(np.mean([one.cosines for one in parts], axis=0), DEFAULT.shrinkage, len(parts))
        sample = np.mean([problem.sample for problem in problems], axis=0)
        return lds_of_predictions(subset_predictions(kernel * sample * factor, masks), outputs).mean

    found: dict[str, list[float]] = {}
    for number, own in enumerate(exact[:STARTS]):
        rows = {"alone": [own], "mean kernel of ten": [_mean(exact, own)]}
        rows["its products with targets only"] = [replace(own, C=rows["mean kernel of ten"][0].C)]
        rows["its Gram matrix only"] = [replace(rows["mean kernel of ten"][0], C=own.C, tt=own.tt)]
        for kind, blend in KINDS.items():
            members = list(_members(setting, own, weights(setting, number), blend))
            rows[kind] = [own, *members]
            if kind == "fresh 0.5":
                rows[f"{kind}, mean kernel"] = [_mean([own, *members], own)]
                rows[f"{kind}, without the checkpoint"] = members
        rows["fresh 0.5, own outputs"] = [
            own,
            *_members(setting, own, weights(setting, number), blended(0.5), own_outputs=True),
        ]
        for kind, parts in rows.items():
            found.setdefault(kind, []).append(lds(parts))
    found["ten checkpoints"] = [lds(exact)]
    return found


def products(setting: Setting, layers: Weights) -> dict[str, Array]:
    """K, C and tt of exact gradients."""
    train, targets = (gradients(setting, layers, split) for split in ("train", "test"))
    return {"K": _gram(train, train), "C": _gram(targets, train), "tt": _lengths(targets)}


def _gram(left: list[Layer], right: list[Layer]) -> Array:
    total: Array = sum((a.d @ b.d.T) * (a.a @ b.a.T) for a, b in zip(left, right, strict=True))
    return total


def _lengths(layers: list[Layer]) -> Array:
    total: Array = sum((layer.d**2).sum(1) * (layer.a**2).sum(1) for layer in layers)
    return total


def _mean(several: Sequence[Kernels], own: Kernels) -> Kernels:
    """The mean kernel, each in units of its mean ‖x‖², with the outputs of one checkpoint."""
    units = [float(np.trace(one.K)) / one.n for one in several]
    means = {key: np.mean([getattr(one, key) / unit for one, unit in zip(several, units, strict=True)], axis=0) for key in "KC"}
    tt = np.mean([one.tt / unit for one, unit in zip(several, units, strict=True)], axis=0)
    return replace(own, **means, tt=tt)


def _members(setting: Setting, own: Kernels, layers: Weights, blend: Blend, own_outputs: bool = False) -> Iterator[Kernels]:
    for number in range(MEMBERS):
        random = np.random.default_rng(number)
        new = [tuple(random.uniform(-1, 1, part.shape) / w.shape[1] ** 0.5 for part in (w, b)) for w, b in layers]
        member = blend(layers, new, random)  # type: ignore[arg-type]
        yield replace(own, **products(setting, member), **(outputs_of(setting, member, own) if own_outputs else {}))


def outputs_of(setting: Setting, layers: Weights, own: Kernels) -> dict[str, Any]:
    """f, q and the simulated training with these weights."""
    data = np.load(setting.root.parent / "data" / f"{setting.name}_train.npz")
    values = data["x"].reshape(own.n, -1).astype(np.float64)
    for weight, bias in layers[:-1]:
        values = np.maximum(values @ weight.T + bias, 0)
    values = values @ layers[-1][0].T + layers[-1][1]
    if values.shape[1] == 1:
        return {"f": values[:, 0], "q": data["y"] - values[:, 0]}
    f = np.where(data["y"] == 1, 1, -1) * (values[:, 1] - values[:, 0])
    q = 0.5 * (1 - np.tanh(f / 2))
    flow = simulated(own.K, f, q, BASE.clip)
    return {"f": f, "q": q, "flows": {} if flow is None else {BASE.clip: flow}}


if __name__ == "__main__":
    main()
