"""Dividing numbered units of work among processes that do not communicate.

Every process computes the same numbering and takes its own part. Unfinished units are missing on disk; rerunning with any
number of workers picks them up.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from trak_cli.errors import ConfigError, Problem

Unit = TypeVar("Unit")

_UNSET = "unset these variables, or give worker.index and worker.count"


@dataclass(frozen=True)
class Share:
    """The part of the work of this process.

    Attributes:
        index, count: unit u belongs to this process if ``u % count == index``.
        shuffle: set for a Slurm array given as an irregular list, in which a task does not know its place. Each process
            then visits *all* units in an order seeded by this text, and skips those that are on disk by then.
        source: where the division comes from, for the log.
    """

    index: int = 0
    count: int = 1
    shuffle: str | None = None
    source: str = "one process"

    def of(self, units: Sequence[Unit]) -> list[Unit]:
        """The units of this process, in the order in which to visit them."""
        if self.shuffle is None:
            return list(units[self.index :: self.count])
        order = list(units)
        seed = hashlib.sha256(self.shuffle.encode()).digest()
        random.Random(seed).shuffle(order)
        return order

    def __str__(self) -> str:
        if self.shuffle is not None:
            return f"all shards in a random order, shared with the other workers ({self.source})"
        return f"worker {self.index} of {self.count} ({self.source})"


def share_from(index: int | None, count: int | None, environment: Mapping[str, str]) -> Share:
    """The share of this process.

    ``worker.index`` and ``worker.count`` take precedence. Otherwise a Slurm array (any list or step) is combined with the
    rank inside the job: ``RANK`` and ``WORLD_SIZE`` of torchrun, else ``SLURM_PROCID`` of a job step. Without any of them,
    the share is all of the work.

    Raises:
        ConfigError: index and count contradict each other, or a variable is no number or contradicts the others.
    """
    if index is not None or count is not None:
        return _explicit(index, count)
    array = _array(environment)
    rank, size, rank_source = _rank(environment)
    sources = " and ".join(source for source in (array.source, rank_source) if source != "one process") or "one process"
    if array.shuffle is not None:
        return Share(shuffle=f"{array.shuffle}/{rank}", source=sources)
    return Share(array.index * size + rank, array.count * size, source=sources)


def _explicit(index: int | None, count: int | None) -> Share:
    if index is None or count is None or not 0 <= index < count:
        raise ConfigError(
            Problem(
                "worker.index, worker.count",
                f"index={index}, count={count}",
                "both, with 0 <= index < count",
                "give both, or neither to take all shards",
            )
        )
    return Share(index, count, source="worker.index and worker.count")


def _array(environment: Mapping[str, str]) -> Share:
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return Share()
    task = _number(environment, "SLURM_ARRAY_TASK_ID")
    count = _number(environment, "SLURM_ARRAY_TASK_COUNT", 1)
    low = _number(environment, "SLURM_ARRAY_TASK_MIN", task)
    high = _number(environment, "SLURM_ARRAY_TASK_MAX", task)
    step = max(1, _number(environment, "SLURM_ARRAY_TASK_STEP", 1))
    if count < 1 or not low <= task <= high:
        found = f"task {task} of {count}, numbered {low} to {high}"
        raise ConfigError(Problem("SLURM_ARRAY_TASK_ID", found, "one of the tasks of its array", _UNSET))
    source = f"Slurm array task {task}"
    if count <= 2:
        return Share(0 if task == low else count - 1, count, source=source)
    if (high - low) % step == 0 and (high - low) // step + 1 == count and (task - low) % step == 0:
        return Share((task - low) // step, count, source=source)
    return Share(shuffle=f"{environment.get('SLURM_ARRAY_JOB_ID', '')}/{task}", source=f"{source} of an irregular list")


def _rank(environment: Mapping[str, str]) -> tuple[int, int, str]:
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return *_place(environment, "RANK", "WORLD_SIZE"), "RANK and WORLD_SIZE"
    # A batch script runs once, but has SLURM_PROCID=0 and SLURM_NTASKS=n too. Only a step has SLURM_STEP_NUM_TASKS.
    if "SLURM_PROCID" in environment and "SLURM_STEP_NUM_TASKS" in environment:
        return *_place(environment, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"), "SLURM_PROCID"
    return 0, 1, "one process"


def _place(environment: Mapping[str, str], rank: str, size: str) -> tuple[int, int]:
    """The rank of a process and the number of processes, from two variables."""
    place = _number(environment, rank), _number(environment, size)
    if not 0 <= place[0] < place[1]:
        found = f"{rank}={place[0]}, {size}={place[1]}"
        raise ConfigError(Problem(f"{rank}, {size}", found, f"0 <= {rank} < {size}", _UNSET))
    return place


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise ConfigError(
            Problem(name, repr(text), "a whole number", f"unset {name}, or give worker.index and worker.count")
        ) from None
