"""The run plan: choices made once, before the first shard, and reused by every worker and every restart.

Engine and microbatch determine the last bits of a feature and, where the input of a ReLU is within rounding of its kink, which
of two correct gradients it has. The shard length determines which file holds it. They are measured or read from the config by
the first worker, and written once. They are in no fingerprint, because every engine gives correct gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trak_cli.errors import Problem, StoreError
from trak_cli.store.json_files import read_json
from trak_cli.store.layout import Layout
from trak_cli.store.safety.records import is_count, is_number, is_text, require_fields
from trak_cli.store.safety.visibility import wait_until_visible
from trak_cli.types import Json

VERSION = 3

#: Seconds of work that an interruption may cost at most, and the bounds of the rows of a shard; all rows are powers of two.
SHARD_SECONDS, LEAST_ROWS, MOST_ROWS = 120.0, 16, 1024

#: Shards of a split, at most, as long as they have fewer rows than ``MOST_ROWS``.
SHARDS = 2**14


def _are_trials(value: Any) -> bool:
    kinds = {"engine": is_text, "microbatch": is_count, "seconds": is_number}
    trials = value if isinstance(value, list) else [None]
    return all(isinstance(one, dict) and all(kind(one.get(name)) for name, kind in kinds.items()) for one in trials)


#: The fields of the file, besides the version.
_FIELDS = {
    "engine": is_text,
    "microbatch": is_count,
    "shard_rows": is_count,
    "strategies": lambda value: isinstance(value, dict) and all(map(is_text, value.values())),
    "measured": _are_trials,
}


@dataclass(frozen=True)
class RunPlan:
    """Attributes:
    engine: gradient engine.
    microbatch: samples per gradient computation, at most.
    shard_rows: rows of every shard but the last of a split.
    strategies: how the engine computes the gradient of each parameter, if it has several ways.
    measured: seconds per sample of each engine and microbatch that were compared, fastest first.
    """

    engine: str
    microbatch: int
    shard_rows: int
    strategies: Mapping[str, str]
    measured: Sequence[Json] = ()

    @property
    def seconds(self) -> float | None:
        """The measured time of a sample with this engine and microbatch; None if it was not measured."""
        for trial in self.measured:
            if (trial["engine"], trial["microbatch"]) == (self.engine, self.microbatch):
                return float(trial["seconds"])
        return None


def rows_of_a_shard(seconds: float, microbatch: int, rows: int) -> int:
    """The rows of a shard that take one to two minutes: the largest power of two within the bounds that takes SHARD_SECONDS.

    It is at least a microbatch, and not so small that the split has more than SHARDS shards. Features do not depend on it
    beyond rounding.

    Args:
        seconds: time of one sample.
        rows: of the split.
    """
    length = LEAST_ROWS
    while length < MOST_ROWS and (2 * length * seconds <= SHARD_SECONDS or length < microbatch or length * SHARDS < rows):
        length *= 2
    return length


def read_plan(layout: Layout) -> RunPlan | None:
    """The plan of a store, or None before the first featurize.

    Raises:
        StoreError: the file is not a run plan of this version.
    """
    if not layout.plan.exists():
        return None
    stored = read_json(layout.plan)
    if stored.pop("version", None) != VERSION:
        remedy = "use the trak that made this store"
        raise StoreError(Problem(str(layout.plan), str(stored), f"a run plan of version {VERSION}", remedy))
    require_fields(layout.plan, stored, _FIELDS, "a run plan")
    return RunPlan(**{name: stored[name] for name in _FIELDS})


def require_plan(layout: Layout) -> RunPlan:
    """The plan of a store that has features.

    Raises:
        StoreError: there is none.
    """
    if layout.root.is_dir():
        wait_until_visible([layout.plan])
    plan = read_plan(layout)
    if plan is None:
        expected = "a store that trak featurize has filled"
        raise StoreError(Problem(str(layout.root), "no features", expected, "run trak featurize first"))
    return plan
