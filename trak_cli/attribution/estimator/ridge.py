"""The ridge λ of A = Σ|q|^b x xᵀ + λI: how it is written in a config, and in which units."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

from trak_cli.attribution.linalg.spectrum import Spectrum
from trak_cli.errors import ConfigError, Problem

Kind = Literal["absolute", "relative", "norm", "weighted"]

_NUMBER = re.compile(r"\+?(?P<number>([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)(?P<unit>[xnw]?)")

_KINDS: dict[str, Kind] = {"": "absolute", "x": "relative", "n": "norm", "w": "weighted"}

_UNITS = {
    "relative": "the mean diagonal of the Gram matrix",
    "norm": "the mean ‖x‖² of the training features",
    "weighted": "their mean weighted ‖x‖²",
}


@dataclass(frozen=True)
class Ridge:
    """A ridge as the user asked for it.

    Attributes:
        kind: "absolute" (λ itself, added to the Gram matrix as it is), "relative" (λ in units of the mean of the Gram's
            diagonal), "norm" (in units of the mean ‖x‖² of the samples, which grows neither with their number nor with k)
            or "weighted" (in units of the mean of |q|^b ‖x‖²: what a typical sample adds to the trace of the Gram).
        value: the number.
        or_larger: another ridge, whose λ is taken where it is larger.
    """

    kind: Kind
    value: float
    or_larger: Ridge | None = None


def ridge_problems(text: str) -> list[Problem]:
    """What is wrong with a ridge as written; empty when :func:`parse_ridge` takes it."""
    if text == "auto" or _parse(text) is not None:
        return []
    expected = (
        "auto, a finite number of 0 or more (λ itself), or one followed by x (times the Gram's mean diagonal), n (times the"
        " mean ‖x‖²) or w (times the mean weighted ‖x‖²); or two of them with | between, for the larger"
    )
    return [Problem("estimator.ridge", repr(text), expected, "set e.g. estimator.ridge=1w")]


def parse_ridge(text: str, default: str = "1w") -> Ridge:
    """Read "0.5" (absolute), "3x" (times the Gram's mean diagonal), "3n" (times the mean ‖x‖²), "3w" (times the mean weighted
    ‖x‖²), "2w|0.3n" (the larger of two) or "auto" (``default``).

    Raises:
        ConfigError: for anything else, negative and non-finite numbers included.
    """
    ridge = _parse(default if text == "auto" else text)
    if ridge is None:
        raise ConfigError(ridge_problems(text))
    return ridge


def describe_ridge(text: str, default: str = "1w") -> str:
    """How λ is chosen, in words."""
    ridge = parse_ridge(text, default)
    why = "the default of this estimator" if text == "auto" else "as given"
    if ridge.or_larger is None:
        return f"λ = {_worded(ridge)} ({why})"
    return f"λ = the larger of {_worded(ridge)} and {_worded(ridge.or_larger)} ({why})"


def resolve(ridge: Ridge, spectrum: Spectrum) -> float:
    """λ itself, in the units of the Gram matrix whose spectrum this is."""
    units = {
        "absolute": 1.0,
        "relative": spectrum.mean_diag,
        "norm": spectrum.mean_square,
        "weighted": spectrum.mean_diag * spectrum.dim / spectrum.n,
    }
    found = ridge.value * units[ridge.kind]
    return found if ridge.or_larger is None else max(found, resolve(ridge.or_larger, spectrum))


def _worded(ridge: Ridge) -> str:
    if ridge.kind == "absolute":
        return f"{ridge.value:g}"
    return ("" if ridge.value == 1 else f"{ridge.value:g} × ") + _UNITS[ridge.kind]


def _parse(text: str) -> Ridge | None:
    first, larger, second = text.partition("|")
    found = _single(first)
    if found is None or not larger:
        return found
    other = _single(second)
    return None if other is None else replace(found, or_larger=other)


def _single(text: str) -> Ridge | None:
    match = _NUMBER.fullmatch(text)
    if match is None or not math.isfinite(value := float(match["number"])):
        return None
    return Ridge(_KINDS[match["unit"]], value)
