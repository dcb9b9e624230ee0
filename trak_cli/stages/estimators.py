"""The estimator that the config asks for."""

from __future__ import annotations

from trak_cli.attribution import EstimatorSpec, spec_problems
from trak_cli.config import TrakConfig
from trak_cli.errors import ConfigError


def make_estimator(config: TrakConfig) -> EstimatorSpec:
    """The estimator of the config.

    Raises:
        ConfigError: names every field that is wrong.
    """
    asked = config.estimator
    spec = EstimatorSpec(asked.name, asked.metric, asked.gram_exponent, asked.front_exponent, asked.unit_norm, asked.ridge)
    problems = spec_problems(spec)
    if problems:
        raise ConfigError(problems)
    return spec
