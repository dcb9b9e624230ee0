"""The metrics B_m that ``estimator.metric`` can name, and how to register another one.

A metric determines how the features of a training sample and of a target are compared: score(i, j) ∝ x_iᵀ B t_j. Scoring
applies B to the targets only, which are few. To add a metric, write a module with one class:

    from trak_cli.attribution.estimator.registry import Metric, register_metric

    @register_metric("diagonal")
    class Diagonal(Metric):
        def apply(self, targets, spectrum, ridge):
            return targets / (spectrum.diagonal() + ridge)

and name the module in the configuration: ``extensions: [my_module]`` and ``estimator: {name: diagonal, metric: diagonal}``.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, TypeVar

import numpy as np

from trak_cli.attribution.linalg.spectrum import Spectrum
from trak_cli.errors import ConfigError, Problem
from trak_cli.types import Float64


class Metric(ABC):
    """A symmetric positive semi-definite matrix B of (k, k), given by its product with targets.

    Attributes:
        needs_gram: whether B depends on the Gram matrix Σ_i |q_i|^b x_i x_iᵀ and on the ridge λ. ``trak finalize`` then
            computes the Gram matrix, and :meth:`apply` receives it.
        version: part of the fingerprint of scores. Raise it when you change the formula: scores of the old formula are then
            refused instead of being mixed with new ones.
    """

    needs_gram: ClassVar[bool] = True
    version: ClassVar[int] = 1

    @abstractmethod
    def apply(self, targets: Float64, spectrum: Spectrum | None, ridge: float) -> Float64:
        """B t_j for every target.

        Args:
            targets: (t, k) float64, the features t_j; must not be changed in place.
            spectrum: the eigendecomposition of the Gram matrix of one checkpoint; None if ``needs_gram`` is False.
            ridge: λ in the units of the Gram matrix; 0 if ``needs_gram`` is False.

        Returns:
            (t, k) float64; row j is B t_j.

        Raises:
            ConfigError: B does not exist with this ridge.
        """

    def subset_sums(
        self, targets: Float64, sums: Float64, spectrum: Spectrum | None, ridges: Sequence[float]
    ) -> Iterator[tuple[Float64, Float64]]:
        """What ``trak tune`` needs, for each λ in ``ridges``: sums of scores over subsets, and the lengths of the targets.

        The default calls :meth:`apply` once for each ridge. Override it if several ridges can share work.

        Args:
            targets: (t, k) float64.
            sums: (k, s) float64, c_S = Σ_{i∈S} w_i x_i for each of s subsets.
            spectrum: as in :meth:`apply`.
            ridges: values of λ.

        Yields:
            (t, s) tᵀ B c_S, and (t, 1) the lengths (tᵀ B t)^(1/2).
        """
        for ridge in ridges:
            applied = self.apply(targets, spectrum, ridge)
            yield applied @ sums, lengths_of(targets, applied)


_METRICS: dict[str, Metric] = {}

_MetricClass = TypeVar("_MetricClass", bound=type[Metric])


def register_metric(name: str) -> Callable[[_MetricClass], _MetricClass]:
    """A class decorator that makes a :class:`Metric` available as ``estimator.metric=NAME``.

    The class is instantiated once, without arguments. Registering the same class twice (a module that is reloaded) replaces it.

    Raises:
        ConfigError: another class has the name already, or the class lacks ``apply``.
    """

    def register(metric: _MetricClass) -> _MetricClass:
        known = _METRICS.get(name)
        if known is not None and _full_name(type(known)) != _full_name(metric):
            found = f"{_full_name(metric)} registered as {name!r}"
            expected = f"another name: {_full_name(type(known))} has this one"
            raise ConfigError(Problem("estimator.metric", found, expected, "rename your metric"))
        if inspect.isabstract(metric):
            expected = "a class with a method apply(self, targets, spectrum, ridge)"
            raise ConfigError(Problem("estimator.metric", f"{_full_name(metric)} without apply", expected, "add the method"))
        _METRICS[name] = metric()
        return metric

    return register


def metric_named(name: str) -> Metric:
    """The registered metric of this name.

    Raises:
        ConfigError: no metric of that name is registered.
    """
    if name not in _METRICS:
        raise ConfigError(unknown_metric(name))
    return _METRICS[name]


def metric_names() -> tuple[str, ...]:
    """The names of all registered metrics, in the order of registration."""
    return tuple(_METRICS)


def unknown_metric(name: str) -> Problem:
    """The problem to report for a metric name that is not registered."""
    remedy = "correct the name, or list the module that registers it in extensions: [MODULE]"
    return Problem("estimator.metric", repr(name), " or ".join(metric_names()), remedy)


def lengths_of(targets: Float64, applied: Float64) -> Float64:
    """(t, 1) float64, the length of every target in its metric, (t_jᵀ B t_j)^(1/2), from t_j and B t_j, (t, k) each."""
    squares: Float64 = np.einsum("tk,tk->t", targets, applied)[:, None]
    lengths: Float64 = np.sqrt(squares.clip(min=0))
    return lengths


def _full_name(metric: type) -> str:
    return f"{metric.__module__}.{metric.__qualname__}"
