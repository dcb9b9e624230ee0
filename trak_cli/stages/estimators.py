"""The estimator that the config asks for."""

from __future__ import annotations

from dataclasses import fields

from trak_cli.attribution import EstimatorSpec, spec_problems
from trak_cli.config import TrakConfig
from trak_cli.errors import ConfigError


def make_estimator(config: TrakConfig) -> EstimatorSpec:
    """The estimator of the config.

    Raises:
        ConfigError: names every field that is wrong.
    """
    asked = config.estimator
    spec = EstimatorSpec(**{field.name: getattr(asked, field.name) for field in fields(EstimatorSpec)})
    problems = spec_problems(spec)
    if problems:
        raise ConfigError(problems)
    return spec
