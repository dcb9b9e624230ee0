"""Which estimators make sense: every problem of a spec, under its config key."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

from trak_cli.attribution.estimator.registry import metric_names, unknown_metric
from trak_cli.attribution.estimator.ridge import RIDGE_UNITS
from trak_cli.attribution.estimator.spec import AVERAGING, WEIGHTS, EstimatorSpec
from trak_cli.errors import Problem

_PATH_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def spec_problems(spec: EstimatorSpec) -> list[Problem]:
    """Everything that is wrong with a spec, each problem under its config key; empty for a valid spec."""
    problems = [*_name(spec), *_choices(spec), *_numbers(spec)]
    if spec.metric not in metric_names():
        return [*problems, unknown_metric(spec.metric)]
    return [*problems, *_without_effect(spec, {problem.where for problem in problems})]


def _name(spec: EstimatorSpec) -> Iterator[Problem]:
    if not _PATH_SAFE.fullmatch(spec.name):
        expected = "letters, digits, '.', '_' and '-', beginning with a letter or digit (it names a folder)"
        yield Problem("estimator.name", repr(spec.name), expected, "choose such a name")


def _choices(spec: EstimatorSpec) -> Iterator[Problem]:
    allowed: dict[str, Sequence[str]] = {"weights": WEIGHTS, "averaging": AVERAGING, "ridge_unit": tuple(RIDGE_UNITS)}
    for name, values in allowed.items():
        if getattr(spec, name) not in values:
            yield Problem(
                f"estimator.{name}", repr(getattr(spec, name)), " or ".join(values), f"set estimator.{name}={_default(name)}"
            )


def _numbers(spec: EstimatorSpec) -> Iterator[Problem]:
    what = {
        "gram_exponent": ("a finite number, 0 or more", 1),
        "weight_exponent": ("a finite number, 0 or more", 1),
        "clip_norm": ("a finite number of median lengths, or 0 for no clipping", 1.5),
        "ridge": ("null (automatic) or a finite number, 0 or more", 1),
        "shrinkage": ("a finite cosine at which the score of one checkpoint is halved, or 0 for no shrinkage", 0.1),
    }
    for name, (expected, example) in what.items():
        value = getattr(spec, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            yield Problem(f"estimator.{name}", repr(value), expected, f"set e.g. estimator.{name}={example:g}")
    if not 0 <= spec.soft_threshold < 1:
        found, expected = repr(spec.soft_threshold), "a share of the scores, 0 or more and below 1"
        yield Problem("estimator.soft_threshold", found, expected, "set e.g. estimator.soft_threshold=0.5")


def _without_effect(spec: EstimatorSpec, known: set[str]) -> Iterator[Problem]:
    """Fields that the other fields make meaningless."""
    reasons: dict[str, str] = {}
    if spec.unit_norm:
        reasons["clip_norm"] = "with estimator.unit_norm=true all features have the same length"
    if spec.ridge is None:
        reasons["ridge_unit"] = "estimator.ridge=null chooses the ridge automatically"
    if not spec.needs_gram:
        unused = [field.name for field in dataclasses.fields(EstimatorSpec) if field.metadata.get("needs_gram")]
        reasons |= dict.fromkeys(unused, f"metric {spec.metric} has no Gram matrix")
    for name, reason in reasons.items():
        key, value, default = f"estimator.{name}", getattr(spec, name), _default(name)
        if value != default and key not in known:
            shown = "null" if default is None else default if isinstance(default, str) else f"{default:g}"
            yield Problem(key, repr(value), f"{shown}, because {reason}", f"leave {key} out")


def _default(name: str) -> object:
    return next(field.default for field in dataclasses.fields(EstimatorSpec) if field.name == name)
