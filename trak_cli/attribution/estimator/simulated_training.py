"""The out-to-loss gradient averaged over the beginning of training, which is simulated from the features.

A single checkpoint gives q at the end of training only. There q is tiny for every sample that the model has learned, although
those samples shaped the model while they were being learned. So training is simulated in the model linearised at the
checkpoint: f_i(s) = x_iᵀ v(s) with v(0) = 0, under gradient flow on the log loss,

    dv/ds = Σ_i q_i(s) x_i,      q_i(s) = sigmoid(−f_i(s)).

The time s has no unit of its own. Training ends at s = T, where the mean of f_i(s) equals the mean of the outputs that the
checkpoint really gives. The estimator uses

    q̄_i = (1/τ) ∫₀^τ q_i(s) ds,      τ = WINDOW · T.

If training was short, q̄ is nearly the same for all samples; if it was long and some samples remained hard, their q̄ is larger.
The flow exists only if q is the sigmoid of −f (log-odds; see :func:`follows_log_loss`). If q is a mean of such probabilities
(sums over tokens), all samples get the same weight (:func:`uniform_training`), and the Gram matrix is over single tokens
(:class:`~trak_cli.attribution.estimator.weights.Terms`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.linalg.spectrum import of_rows
from trak_cli.attribution.linalg.weighted_systems import WeightedSystems
from trak_cli.types import Float64, FloatArray, IntArray, evenly_spaced

#: The part of the training time over which q is averaged; chosen by experiment (docs/default.md).
WINDOW = 0.15

#: Maximal number of rows that the flow is computed from.
FLOW_ROWS = 4096

#: Version of the integration below, and of what is summed with its weights; part of fingerprints.
FLOW_VERSION = 3

#: The time steps of the flow are evenly spaced in their logarithm. The first step is the smaller of two times, so that many
#: steps fit into the window: a fraction of the time that training would take at its initial speed (which depends on how many
#: samples there are), and a time in units of 1 / mean ‖x‖². The last step is in the second unit.
_PER_DECADE = 10
_FIRST_OF_TRAINING, _FIRST, _LAST = 0.03, 1e-2, 1e5


@dataclass(frozen=True)
class SimulatedTraining:
    """The beginning of a simulated training.

    Attributes:
        times: (s,) float64, ascending from 0 to τ.
        parameters: (k, s) float64, v at these times.
        duration: T · mean ‖x‖², a number without unit: how long training was.
        arrived: False if the flow did not reach the outputs of the checkpoint; T is then the longest time tried.
    """

    times: Float64
    parameters: Float64
    duration: float
    arrived: bool

    @property
    def uniform(self) -> bool:
        """Whether all samples have the same weight because nothing could be simulated (:func:`uniform_training`)."""
        return self.arrived and self.duration == 0

    def mean_q(self, features: FloatArray) -> Float64:
        """q̄ of samples with ``features`` (r, k): (r,) float64 in (0, 1), by the trapezoidal rule."""
        q = _sigmoid(-(features.astype(np.float64) @ self.parameters))
        steps = np.diff(self.times)
        mean: Float64 = (q[:, :-1] + q[:, 1:]) @ steps / (2 * self.times[-1])
        return mean


def follows_log_loss(outputs: FloatArray, out_to_loss: FloatArray) -> bool:
    """Whether q = sigmoid(−f) for all given samples, (m,) each: f is then the log-odds of the correct answer."""
    return bool(np.allclose(out_to_loss, _sigmoid(-outputs.astype(np.float64)), rtol=1e-3, atol=1e-6))


def flow_rows(rows: int) -> IntArray:
    """Which of ``rows`` training rows the flow is computed from: (m,) int64, ascending."""
    return evenly_spaced(rows, FLOW_ROWS)


def simulate(features: FloatArray, outputs: FloatArray, rows: int, window: float = WINDOW) -> SimulatedTraining:
    """Simulate the training of a training set.

    Args:
        features: (m, k) of the samples that :func:`flow_rows` names.
        outputs: (m,) f of the same samples.
        rows: size of the training set.
        window: the part of the training time over which q is averaged.
    """
    X = features.astype(np.float64)
    mean_square = float(np.einsum("ik,ik->", X, X)) / len(X)
    if mean_square == 0:
        return SimulatedTraining(np.array([0.0, 1.0]), np.zeros((X.shape[1], 2)), 0.0, arrived=False)
    basis = None
    if len(X) < X.shape[1]:  # v stays in the span of the rows
        _, vectors = of_rows(X)
        basis, X = vectors.T, X @ vectors
    target = float(outputs.mean(dtype=np.float64))
    first, last = _FIRST / mean_square, _LAST / mean_square
    speed = rows / 2 * float(np.square(X.mean(axis=0)).sum())  # of the mean of f, while q is ½
    if 0 < target < speed * first / _FIRST_OF_TRAINING:
        first = _FIRST_OF_TRAINING * target / speed
    times, path, reached = [0.0], [np.zeros(X.shape[1])], [0.0]
    for time, v in _flow(X, first, last, rows / len(X)):
        times.append(time)
        path.append(v)
        reached.append(float((X @ v).mean()))
        if reached[-1] >= target:
            break
    arrived = reached[-1] >= target
    end = float(np.interp(target, reached, times)) if arrived else times[-1]
    end = max(end, times[1])  # with a mean output of zero or less, training is at its very beginning
    until, parameters = _cut(np.array(times), np.array(path), window * end)
    return SimulatedTraining(until, (parameters if basis is None else parameters @ basis).T, end * mean_square, arrived)


def _flow(X: Float64, first: float, last: float, weight: float) -> Iterator[tuple[float, Float64]]:
    """(time, v) of gradient flow by implicit steps: v += h (I + h H)⁻¹ Σ q x, H = Σ q (1 − q) x xᵀ."""
    v, before, systems = np.zeros(X.shape[1]), 0.0, WeightedSystems(X)
    for number in range(math.ceil(_PER_DECADE * math.log10(last / first))):
        time = first * 10 ** (number / _PER_DECADE)
        step = (time - before) * weight
        q = _sigmoid(-(X @ v))
        v = v + step * systems.solve(step * q * (1 - q), X.T @ q)
        before = time
        yield time, v


def uniform_training(dim: int) -> SimulatedTraining:
    """A training of length zero: q̄ = ½ for all samples with features of ``dim`` numbers."""
    return SimulatedTraining(np.array([0.0, 1.0]), np.zeros((dim, 2)), 0.0, arrived=True)


def _cut(times: Float64, path: Float64, stop: float) -> tuple[Float64, Float64]:
    """The part of a path up to the time ``stop``, with an interpolated end: times (s,) and v (s, k)."""
    inside = int(np.searchsorted(times, stop))
    share = (stop - times[inside - 1]) / (times[inside] - times[inside - 1])
    last = (1 - share) * path[inside - 1] + share * path[inside]
    return np.append(times[:inside], stop), np.vstack([path[:inside], last])


def _sigmoid(values: Float64) -> Float64:
    half: Float64 = 0.5 * (1 + np.tanh(values / 2))
    return half
