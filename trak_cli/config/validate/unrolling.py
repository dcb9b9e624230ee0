"""The keys of `trak unroll`: ranges, and values that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from trak_cli.config.compose.files import config_groups
from trak_cli.config.schema import TrakConfig, UnrollConfig
from trak_cli.config.wording import one_of, shown
from trak_cli.errors import ConfigError, Problem
from trak_cli.store.layout import check_name
from trak_cli.types import listed, repeated


def unroll_problems(config: TrakConfig) -> Iterator[Problem]:
    """Values of ``unroll`` that are out of range, or that contradict each other."""
    unroll = config.unroll
    if twice := repeated(unroll.targets or []):
        yield Problem("unroll.targets", f"{listed(list(map(str, twice)))} more than once", "each row once", "leave one out")
    if unroll.split is not None and config.dataset.targets and unroll.split not in config.dataset.targets:
        known = one_of(list(config.dataset.targets))
        yield Problem("unroll.split", shown(unroll.split), known, "name a split of dataset.targets")
    if unroll.group and unroll.block is not None:
        found = f"{unroll.block} with unroll.group=true"
        yield Problem("unroll.block", found, "null: a group is differentiated as one target", "leave it out")
    if not 0 < unroll.drop < 1:
        yield Problem("unroll.drop", shown(unroll.drop), "a share between 0 and 1, both excluded", "give unroll.drop=0.01")
    elif unroll.removals == 0 and unroll.directions == 0 and unroll.drop != UnrollConfig().drop:
        found = f"{shown(unroll.drop)} with unroll.removals=0"
        yield Problem("unroll.drop", found, "its default: no training leaves samples out", "leave it out")
    yield from _unrolled_name(unroll.name)


def _unrolled_name(name: str) -> Iterator[Problem]:
    """Problems of a name of unrolled scores, which must not be that of an estimator of `trak score`."""
    if name in config_groups()["estimator"]:
        found = f"{name}, the name of an estimator of trak score"
        yield Problem("unroll.name", found, "a name of its own", f"give e.g. unroll.name=unroll_{name}")
    elif name:
        try:
            check_name(name, "estimator")
        except ConfigError as error:
            yield from (replace(problem, where="unroll.name") for problem in error.problems)
