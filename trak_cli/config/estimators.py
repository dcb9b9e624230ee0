"""The named estimators that the program ships, read from the files of the config group ``estimator``."""

from __future__ import annotations

from functools import cache

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.config.compose.files import config_groups, read_option


@cache
def shipped_estimators() -> dict[str, EstimatorSpec]:
    """Every shipped estimator by name. Do not change the mapping: it is shared."""
    return {name: EstimatorSpec(**read_option("estimator", name, None)) for name in config_groups()["estimator"]}
