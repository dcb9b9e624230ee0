"""The ridge λ of A = Σ|q|^b x xᵀ + λI: how it is written in a config, and in which units."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from trak_cli.attribution.spectrum import Spectrum
from trak_cli.errors import ConfigError, Problem

_NUMBER = re.compile(r"\+?(?P<number>([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)(?P<unit>[xn]?)")


@dataclass(frozen=True)
class Ridge:
    """A ridge as the user asked for it.

    Attributes:
        kind: "absolute" (λ itself, added to the Gram matrix as it is), "relative" (λ in units of the mean of the Gram's
            diagonal) or "norm" (in units of the mean ‖x‖² of the samples, which grows neither with their number nor
            with k).
        value: the number.
    """

    kind: Literal["absolute", "relative", "norm"]
    value: float


def ridge_problems(text: str) -> list[Problem]:
    """What is wrong with a ridge as written; empty when :func:`parse_ridge` takes it."""
    if text == "auto" or _parse(text) is not None:
        return []
    expected = (
        "auto, a finite number of 0 or more (λ itself), or one followed by x (times the Gram's mean diagonal) or n"
        " (times the mean ‖x‖²)"
    )
    return [Problem("estimator.ridge", repr(text), expected, "set e.g. estimator.ridge=1x")]


def parse_ridge(text: str, default: str = "1x") -> Ridge:
    """Read "0.5" (absolute), "3x" (times the Gram's mean diagonal), "3n" (times the mean ‖x‖²) or "auto" (``default``).

    Raises:
        ConfigError: for anything else, negative and non-finite numbers included.
    """
    ridge = _parse(default if text == "auto" else text)
    if ridge is None:
        raise ConfigError(ridge_problems(text))
    return ridge


def describe_ridge(text: str, default: str = "1x") -> str:
    """How λ is chosen, in words."""
    ridge = parse_ridge(text, default)
    why = "the default of this estimator" if text == "auto" else "as given"
    if ridge.kind == "absolute":
        return f"λ = {ridge.value:g} ({why})"
    unit = "the mean diagonal of the Gram matrix" if ridge.kind == "relative" else "the mean ‖x‖² of the training features"
    times = "" if ridge.value == 1 else f"{ridge.value:g} × "
    return f"λ = {times}{unit} ({why})"


def resolve(ridge: Ridge, spectrum: Spectrum) -> float:
    """λ itself, in the units of the Gram matrix whose spectrum this is."""
    units = {"absolute": 1.0, "relative": spectrum.mean_diag, "norm": spectrum.mean_square}
    return ridge.value * units[ridge.kind]


def _parse(text: str) -> Ridge | None:
    match = _NUMBER.fullmatch(text)
    if match is None or not math.isfinite(value := float(match["number"])):
        return None
    kinds: dict[str, Literal["absolute", "relative", "norm"]] = {"": "absolute", "x": "relative", "n": "norm"}
    return Ridge(kinds[match["unit"]], value)
