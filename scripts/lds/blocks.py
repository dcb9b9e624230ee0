"""The curvature of EK-FAC in the default: over all parameters, by layer, and in the eigenbasis of Kronecker factors.

python scripts/lds/blocks.py [SETTING ...]      after scripts/bench_lds.py has prepared the settings

Settings: an MLP with one output or two classes, whose exact gradients take a few lines. Weights, clipping and the ratio of the
ridge to the mean ‖∇f‖² are the same for the three; nothing is shrunk. Writes docs/results/default_blocks.csv: the mean LDS of
four checkpoints, each alone, and the LDS of the four together.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from kernels import kernels, open_any, truth
from safetensors.numpy import load_file
from setting import Setting
from variants import BASE, Problem

from trak_cli.attribution.lds.lds import lds_of_predictions, subset_predictions

Array = np.ndarray[Any, Any]

SETTINGS = ("affairs", "visits", "schools", "cancer")
#: The weight and bias of every layer, from the first.
Weights = list[tuple[Array, Array]]

CHECKPOINTS = 4
RIDGES = (0.1, 0.3, 0.6, 1.2, 2.4)


class Layer(NamedTuple):
    """Gradients of f in one layer, Σ d aᵀ over one term: d (n, out) at its output, a (n, in + 1) its input and a one."""

    d: Array
    a: Array

    @property
    def rows(self) -> Array:
        """(n, out · (in + 1))."""
        return (self.d[:, :, None] * self.a[:, None, :]).reshape(len(self.d), -1)


def main() -> None:
    with Path("docs/results/default_blocks.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["setting", "curvature", "ridge", "alone", "together"])
        for name in sys.argv[1:] or SETTINGS:
            out.writerows(measured(name))


def measured(name: str) -> Iterator[list[str]]:
    setting = open_any(name)
    assert isinstance(setting, Setting)
    masks, outputs = truth(name)
    kernel: dict[tuple[str, float], list[Array]] = {}
    samples = []
    for number, one in enumerate(kernels(name, CHECKPOINTS)):
        problem = Problem(one, BASE)
        w = np.ones(one.n) if (one.q < 0).any() else problem.sample
        train, targets = (gradients(setting, weights(setting, number), split) for split in ("train", "test"))
        factors = clipped(train)
        train = [Layer(layer.d * factors[:, None], layer.a) for layer in train]
        unit = float(sum((layer.rows**2).sum() for layer in train)) / one.n
        for curvature, (X, T) in bases(train, targets, w).items():
            found = scores(X, T, w, [ridge * unit for ridge in RIDGES], curvature == "Kronecker")
            for ridge, one_kernel in zip(RIDGES, found, strict=True):
                kernel.setdefault((curvature, ridge), []).append(one_kernel)
        samples.append(problem.sample)

    def lds(matrix: Array) -> float:
        return lds_of_predictions(subset_predictions(matrix, masks), outputs).mean

    for (curvature, ridge), several in kernel.items():
        alone = np.mean([lds(one * q) for one, q in zip(several, samples, strict=True)])
        together = lds(np.mean(several, axis=0) * np.mean(samples, axis=0))
        yield [name, curvature, f"{ridge:g}", f"{alone:.3f}", f"{together:.3f}"]


def weights(setting: Setting, number: int) -> Weights:
    """Of one checkpoint."""
    state = load_file(setting.checkpoint_file(setting.checkpoints[number]))
    return [
        (state[f"layers.{i}.weight"].astype(np.float64), state[f"layers.{i}.bias"].astype(np.float64))
        for i in range(len(state) // 2)
    ]


def gradients(setting: Setting, layers: Weights, split: str) -> list[Layer]:
    """Of f with these weights, by layer."""
    data = np.load(setting.root.parent / "data" / f"{setting.name}_{split}.npz")
    inputs = [data["x"].reshape(len(data["x"]), -1).astype(np.float64)]
    for weight, bias in layers[:-1]:
        inputs.append(np.maximum(inputs[-1] @ weight.T + bias, 0))
    d = np.ones((len(inputs[0]), 1))
    if len(layers[-1][1]) > 1:
        d = np.where(np.arange(2) == data["y"][:, None], 1.0, -1.0)
    found = []
    for (weight, _), a in zip(reversed(layers), reversed(inputs), strict=True):
        found.append(Layer(d, np.append(a, np.ones((len(a), 1)), axis=1)))
        d = (d @ weight) * (a > 0)
    return found[::-1]


def clipped(layers: list[Layer]) -> Array:
    """(n,) the factors that clip gradients at 1.5 median lengths."""
    lengths = np.sqrt(sum((layer.rows**2).sum(axis=1) for layer in layers))
    factors: Array = np.minimum(1, BASE.clip * np.median(lengths) / lengths)
    return factors


def bases(train: list[Layer], targets: list[Layer], w: Array) -> dict[str, tuple[list[Array], list[Array]]]:
    """{curvature: blocks of training rows and of targets}."""
    X, T = [layer.rows for layer in train], [layer.rows for layer in targets]
    rotated: tuple[list[Array], list[Array]] = ([], [])
    for layer, target in zip(train, targets, strict=True):
        U, V = (np.linalg.eigh((part * w[:, None]).T @ part)[1] for part in layer)
        for several, one in zip(rotated, (layer, target), strict=True):
            several.append(Layer(one.d @ U, one.a @ V).rows)
    return {
        "all parameters": ([np.concatenate(X, axis=1)], [np.concatenate(T, axis=1)]),
        "layers": (X, T),
        "Kronecker": rotated,
    }


def scores(X: list[Array], T: list[Array], w: Array, ridges: list[float], diagonal: bool) -> list[Array]:
    """(t, n) for each λ, the sum over blocks of T (Σ w x xᵀ + λI)⁻¹ Xᵀ, or with the diagonal of Σ w x xᵀ.

    Targets have unit length in this metric.
    """
    root = np.sqrt(w)
    found = [(np.zeros(()), np.zeros(())) for _ in ridges]
    for x, t in zip(X, T, strict=True):
        if diagonal:
            values, left, right, outside = w @ x**2, t, x.T, np.zeros(len(t))
        else:
            rows = x * root[:, None]
            values, U = np.linalg.eigh(rows @ rows.T)
            values, U = values[values > 1e-10 * values[-1]], U[:, values > 1e-10 * values[-1]]
            left, right = t @ (rows.T @ U) / np.sqrt(values), np.sqrt(values)[:, None] * U.T / root
            outside = ((t**2).sum(axis=1) - (left**2).sum(axis=1)).clip(min=0)
        for number, ridge in enumerate(ridges):
            inverse = 1 / (values + ridge)
            squares = left**2 @ inverse + outside / ridge
            found[number] = (found[number][0] + (left * inverse) @ right, found[number][1] + squares)
    return [kernel / np.where(squares > 0, np.sqrt(squares), 1)[:, None] for kernel, squares in found]


if __name__ == "__main__":
    main()
