"""Dividing numbered units of work among processes that do not communicate.

Every process computes the same numbering and takes its own part. Unfinished units are missing on disk; rerunning with any
number of workers picks them up.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from trak_cli.cluster.environment import Place, array_place, rank_place, scheduler
from trak_cli.errors import ConfigError, Problem

Unit = TypeVar("Unit")

_ALONE = "one process"


@dataclass(frozen=True)
class Share:
    """The part of the work of this process.

    Attributes:
        index, count: unit u belongs to this process if ``u % count == index``.
        shuffle: set for a task of an array that does not know its place: of an irregular list, or of unknown length. Each
            process then visits *all* units in an order seeded by this text, and skips those that are on disk by then.
        source: where the division comes from, for the log.
        warning: what the user should know about the division; empty if there is nothing.
    """

    index: int = 0
    count: int = 1
    shuffle: str | None = None
    source: str = _ALONE
    warning: str = ""

    def of(self, units: Sequence[Unit]) -> list[Unit]:
        """The units of this process, in the order in which to visit them."""
        if self.shuffle is None:
            return list(units[self.index :: self.count])
        order = list(units)
        seed = hashlib.sha256(self.shuffle.encode()).digest()
        random.Random(seed).shuffle(order)
        return order

    def grouped(self, units: Sequence[Unit], group: Callable[[Unit], str]) -> dict[str, list[Unit]]:
        """The units of this process by group. Each process begins with another group, because the first one in a group does
        some work for the others."""
        found: dict[str, list[Unit]] = {}
        for unit in self.of(units):
            found.setdefault(group(unit), []).append(unit)
        names = [*found]
        first = self.index % max(len(names), 1)
        return {name: found[name] for name in [*names[first:], *names[:first]]}

    def __str__(self) -> str:
        if self.shuffle is not None:
            return f"all shards in a random order, shared with the other workers ({self.source})"
        return f"worker {self.index} of {self.count} ({self.source})"


def share_from(index: int | None, count: int | None, environment: Mapping[str, str]) -> Share:
    """The share of this process.

    ``worker.index`` and ``worker.count`` take precedence. Otherwise the task of a job array is combined with the rank inside
    the job (:mod:`trak_cli.cluster.environment`). ``worker.count`` alone adds the number of tasks that some schedulers do not
    tell. Without any index, the share is all of the work; under a scheduler, the share then has a warning.

    Raises:
        ConfigError: index and count contradict each other, or a variable is no number or contradicts the others.
    """
    if index is not None:
        return _explicit(index, count)
    array, rank = array_place(environment), rank_place(environment)
    source = " and ".join(place.source for place in (array, rank) if place.source)
    if count is not None:
        return _counted(array, rank, count, source)
    if array.count is None:
        warning = (
            "" if array.irregular else f"{source}: the number of tasks is unknown; set worker.count=N to divide the work evenly"
        )
        return Share(shuffle=f"{array.job}/{array.index}/{rank.index}", source=source, warning=warning)
    if not source:
        return Share(warning=_without_index(scheduler(environment)))
    size = rank.count or 1
    return Share(array.index * size + rank.index, array.count * size, source=source)


def _explicit(index: int, count: int | None) -> Share:
    if count is None or not 0 <= index < count:
        found = f"index={index}, count={count}"
        remedy = "give both, or neither to take all shards"
        raise ConfigError(Problem("worker.index, worker.count", found, "both, with 0 <= index < count", remedy))
    return Share(index, count, source="worker.index and worker.count")


def _counted(array: Place, rank: Place, count: int, source: str) -> Share:
    """The share of this process among ``count``. Consecutive task numbers, from any start, get different shares."""
    if not source:
        found = f"nothing, although worker.count={count} is given and no scheduler gives an index"
        remedy = "give worker.index too"
        raise ConfigError(Problem("worker.index", found, "both worker.index and worker.count, or neither", remedy))
    size = rank.count or 1
    known = None if array.count is None else array.count * size
    if array.irregular or known not in (None, count):
        found = f"{count}, with {source}" + (f", which counts {known} processes" if known else "")
        expected = f"worker.count={known}, or nothing" if known else "nothing, because the task numbers have no constant step"
        raise ConfigError(Problem("worker.count", found, expected, "leave worker.count out, or give worker.index too"))
    return Share((array.index * size + rank.index) % count, count, source=f"{source}, and worker.count")


def _without_index(name: str | None) -> str:
    if name is None:
        return ""
    return (
        f"warning: {name} runs this process, but gives it no index, so it does all of the work. If you started several "
        "processes, each of them does all of the work; give each of them worker.index=I worker.count=N"
    )
