"""What the estimator family needs of a checkpoint, as matrices over samples instead of features.

With K = X Xᵀ, C = T Xᵀ and weights w > 0, T (Xᵀ diag(w) X + λI)⁻¹ Xᵀ = C (diag(w) K + λI)⁻¹. So every weight and ridge can be
tried on n × n matrices, whatever k is. For three classes or more, X has a second row for each sample, of its other classes. The
matrices and the simulated trainings are kept in runs/lds/choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from reference import Reference, reference_settings
from setting import Features, Setting, open_setting

from trak_cli.attribution.estimator.simulated_training import follows_log_loss, simulate
from trak_cli.attribution.estimator.weights import ClassRows

Array = np.ndarray[Any, Any]

CACHE = Path("runs/lds/choose/kernels")
#: Training features are clipped at these multiples of their median length; 0: not at all.
CLIPS = (1.5, 0.0)
#: Eigenvalues below this share of the largest are rounding errors of float32.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Flow:
    """A whole simulated training on clipped features: ascending times (s,) and f (s, n) at these times."""

    times: Array
    path: Array

    def mean_q(self, window: float) -> Array:
        """(n,) q averaged over this part of the training, by the trapezoidal rule."""
        stop = window * self.times[-1]
        inside = int(np.searchsorted(self.times, stop))
        share = (stop - self.times[inside - 1]) / (self.times[inside] - self.times[inside - 1])
        last = (1 - share) * self.path[inside - 1] + share * self.path[inside]
        times, path = np.append(self.times[:inside], stop), np.vstack([self.path[:inside], last])
        q = 0.5 * (1 - np.tanh(path / 2))
        mean: Array = (q[1:] + q[:-1]).T @ np.diff(times) / (2 * stop)
        return mean


@dataclass(frozen=True)
class Kernels:
    """One checkpoint: K (m, m) and C (t, m), not clipped; tt (t,) squared lengths of the targets; f and q (n,).

    m is n, or 2 n with the rows of the other classes, which follow those of f; their ``residuals`` (n,) are empty without them.
    ``flows`` are the simulated trainings by clipping; empty where q does not follow from f.
    """

    K: Array
    C: Array
    tt: Array
    f: Array
    q: Array
    residuals: Array
    flows: dict[float, Flow]

    @property
    def n(self) -> int:
        """Training samples."""
        return len(self.f)

    @cached_property
    def cosines(self) -> Array:
        """(t, n)."""
        products = self.C[:, : self.n]
        lengths = np.sqrt(self.tt)[:, None] * np.sqrt(np.diag(self.K)[: self.n])
        return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)

    def clip_factors(self, clip: float) -> Array:
        """(m,) the factor of every row that clipping at ``clip`` median lengths applies; 1 for other classes."""
        factors = _clip_factors(np.sqrt(np.diag(self.K)[: self.n]), clip)
        return np.append(factors, np.ones(len(self.K) - self.n))


def open_any(name: str) -> Setting | Reference:
    """A setting or the reference digits."""
    known = reference_settings()
    return known[name] if name in known else open_setting(name)


def truth(name: str) -> tuple[Array, Array]:
    """Masks (s, n) and mean outputs (s, t) of a setting."""
    path = CACHE / name / "truth.npz"
    if not path.exists():
        masks, models = open_any(name).truth
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, masks=masks, models=models)
    with np.load(path) as arrays:
        return arrays["masks"], arrays["models"].mean(axis=1)


def kernels(name: str, count: int = 10, unclipped: int = 10) -> Iterator[Kernels]:
    """Of the first ``count`` checkpoints of a setting; ``unclipped`` of them have a simulated training without clipping too."""
    for number in range(count):
        clips = CLIPS if number < unclipped else CLIPS[:1]
        yield Kernels(**_matrices(name, number), flows={clip: flow for clip in clips if (flow := _flow(name, number, clip))})


def _matrices(name: str, number: int) -> dict[str, Array]:
    path = CACHE / name / f"{number}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        setting = open_any(name)
        found = _products(setting.features(setting.checkpoints[number]))
        np.savez(path, **{key: array.astype(np.float32) for key, array in found.items()})
    with np.load(path) as arrays:
        return {key: arrays[key].astype(np.float64) for key in ("K", "C", "tt", "f", "q", "residuals")}


def _products(stored: Features) -> dict[str, Array]:
    X, T = stored.train.astype(np.float64), stored.targets.astype(np.float64)
    residuals = np.zeros(0)
    if isinstance(stored.curvature, ClassRows):
        X, residuals = np.concatenate([X, stored.curvature.features]), stored.curvature.residuals
    found = {"K": X @ X.T, "C": T @ X.T, "tt": (T * T).sum(axis=1), "f": stored.outputs, "q": stored.out_to_loss}
    return found | {"residuals": residuals}


def _flow(name: str, number: int, clip: float) -> Flow | None:
    """None where q does not follow from f."""
    path = CACHE / name / f"flow_{clip:g}_{number}.npz"
    if not path.exists():
        found = _matrices(name, number)
        n = len(found["f"])
        np.savez(path, **_simulate(found["K"][:n, :n], found["f"], found["q"], clip))
    with np.load(path) as arrays:
        return _until_its_end(dict(arrays))


def simulated(K: Array, f: Array, q: Array, clip: float) -> Flow | None:
    """The whole simulated training from rows whose products are K, not clipped; None where q does not follow from f."""
    return _until_its_end(_simulate(K, f, q, clip))


def _until_its_end(arrays: dict[str, Array]) -> Flow | None:
    times, f, end = arrays["times"], arrays["path"].astype(np.float64), float(arrays["end"])
    if not len(times):
        return None
    inside = int(np.searchsorted(times, end))
    share = (end - times[inside - 1]) / (times[inside] - times[inside - 1])
    last = (1 - share) * f[inside - 1] + share * f[inside]
    return Flow(np.append(times[:inside], end), np.vstack([f[:inside], last]))


def _simulate(K: Array, f: Array, q: Array, clip: float) -> dict[str, Array]:
    """The whole training, from rows whose products are K."""
    if not follows_log_loss(f, q):
        return {"times": np.zeros(0), "path": np.zeros((0, len(f))), "end": np.array(0.0)}
    factors = _clip_factors(np.sqrt(np.diag(K)), clip)
    values, vectors = np.linalg.eigh(K * factors[:, None] * factors)
    above = values > ROUNDING * values[-1]
    rows = vectors[:, above] * np.sqrt(values[above])
    whole = simulate(rows, f, len(f), window=1.0)
    return {"times": whole.times, "path": (rows @ whole.parameters).T.astype(np.float32), "end": whole.times[-1]}


def _clip_factors(lengths: Array, clip: float) -> Array:
    if not clip:
        return np.ones(len(lengths))
    return np.minimum(1, clip * np.median(lengths) / np.where(lengths > 0, lengths, 1))
