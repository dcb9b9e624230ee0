"""``trak config``: the composed configuration; that it could be composed is the check."""

from __future__ import annotations

from dataclasses import dataclass

from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.types import Reporter


@dataclass(frozen=True)
class ConfigSummary:
    """The resolved configuration, as text and as values."""

    yaml: str
    config: TrakConfig


def show_config(loaded: Loaded, reporter: Reporter) -> ConfigSummary:
    """The configuration as every stage sees it."""
    del reporter
    return ConfigSummary(loaded.yaml, loaded.config)
