"""The ridge λ of A = Σ|q|^b x xᵀ + λI: how it is written in a config, and the rule that chooses it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from trak_cli.attribution.spectrum import Spectrum
from trak_cli.errors import ConfigError, Problem

_NUMBER = re.compile(r"\+?(?P<number>([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)(?P<times>x?)")


@dataclass(frozen=True)
class Ridge:
    """A ridge as the user asked for it.

    Attributes:
        kind: "auto" (the default rule decides), "absolute" (λ itself, added to the Gram matrix as it is) or
            "relative" (λ in units of the mean of the Gram's diagonal, so that it does not depend on the scale of the
            features).
        value: the number; 0 for "auto".
    """

    kind: Literal["auto", "absolute", "relative"]
    value: float


def ridge_problems(text: str) -> list[Problem]:
    """What is wrong with a ridge as written; empty when :func:`parse_ridge` takes it."""
    if _parse(text) is not None:
        return []
    expected = "auto, a finite number of 0 or more (λ itself), or one followed by x (times the Gram's mean diagonal)"
    return [Problem("estimator.ridge", repr(text), expected, "set e.g. estimator.ridge=1x")]


def parse_ridge(text: str) -> Ridge:
    """Read "auto", "0.5" (absolute) or "3x" (relative).

    Raises:
        ConfigError: for anything else, negative and non-finite numbers included.
    """
    ridge = _parse(text)
    if ridge is None:
        raise ConfigError(ridge_problems(text))
    return ridge


def describe_ridge(text: str) -> str:
    """How λ is chosen, in words."""
    ridge = parse_ridge(text)
    if ridge.kind == "absolute":
        return f"λ = {ridge.value:g}, as given"
    if ridge.kind == "auto":
        return "λ = the mean diagonal of the Gram matrix (the default rule)"
    return f"λ = {ridge.value:g} × the mean diagonal of the Gram matrix, as given"


def resolve(ridge: Ridge, spectrum: Spectrum) -> float:
    """λ itself, in the units of the Gram matrix whose spectrum this is."""
    if ridge.kind == "auto":
        return default_ridge(spectrum)
    return ridge.value * spectrum.mean_diag if ridge.kind == "relative" else ridge.value


def default_ridge(spectrum: Spectrum) -> float:
    """The default rule: λ = mean(diag Σ|q|^b x xᵀ).

    The mean of the diagonal is the mean eigenvalue, so directions that carry less than an average share of the
    gradient are damped and the few strong ones keep their scale. The rule is unchanged by a rescaling of the features.
    """
    return spectrum.mean_diag


def _parse(text: str) -> Ridge | None:
    if text == "auto":
        return Ridge("auto", 0.0)
    match = _NUMBER.fullmatch(text)
    if match is None or not math.isfinite(value := float(match["number"])):
        return None
    return Ridge("relative" if match["times"] else "absolute", value)
