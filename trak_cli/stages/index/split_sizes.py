"""The number of rows of each split, recorded by featurize for the stages that load no data.

A split may grow. It may not become shorter than its shards; a recorded length beyond the shards may be withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from shlex import quote

from trak_cli.errors import Problem, StoreError, TrakError
from trak_cli.plurals import counted
from trak_cli.store.atomic_write import remove
from trak_cli.store.json_files import read_json, replace_json, write_json_once
from trak_cli.store.layout import Layout
from trak_cli.store.safety.records import is_count, require_fields
from trak_cli.store.safety.visibility import wait_until_visible
from trak_cli.store.shards import inspect_features
from trak_cli.types import TRAIN, Json, Rows, shards_of

#: Shards of a split, at most: a number of rows in a store of somebody else may be anything.
MOST_SHARDS = 1 << 24


def check_rows(layout: Layout, split: str, rows: int) -> None:
    """Refuse a split that is shorter than its shards.

    Raises:
        StoreError: they hold more rows.
    """
    if rows >= _noted(layout, split):  # no shard is read for the usual answer
        return
    held = held_rows(layout, split)
    if rows < held:
        expected = f"at least the {held} that {layout.root} was made from"
        remedy = "restore the missing rows (rows can only be appended), or use another store"
        if split != TRAIN:
            remedy += f"; or, to replace the split and remove its scores, give {quote(f'dataset.replace=[{split}]')}"
        raise StoreError(Problem(f"split {split}", f"{counted(rows, 'row')} in the dataset", expected, remedy))


@contextmanager
def lengths_recorded(layout: Layout, lengths: Mapping[str, int]) -> Iterator[None]:
    """Record the lengths of splits while their shards are computed.

    If the computation is refused (for a bad sample among the appended ones, say) before any shard has a new row, the earlier
    length is restored, so that a store that was complete stays complete.

    Raises:
        StoreError: shards hold more rows of a split.
    """
    before = {split: _noted(layout, split) for split in lengths}
    try:
        for split, rows in lengths.items():
            check_rows(layout, split, rows)
            write_json_once(layout.split(split), {"rows": rows})
            if rows != rows_of(layout, split):
                replace_json(layout.split(split), _description(layout, split, rows))
        yield
    except TrakError:
        for split, rows in before.items():
            if rows < lengths[split] and held_rows(layout, split) <= rows:
                if rows:
                    replace_json(layout.split(split), _description(layout, split, rows))
                else:
                    remove(layout.split(split))
        raise


def _description(layout: Layout, split: str, rows: int) -> Json:
    """What is recorded of a split that has another length than before."""
    first = first_rows(layout, split)
    return {"rows": rows} if first in (None, rows) else {"rows": rows, "first_rows": first}


def first_rows(layout: Layout, split: str) -> int | None:
    """How many rows a split had when its length was first recorded; None if none is recorded."""
    path = layout.split(split)
    if not path.exists():
        return None
    described = read_json(path)
    key = "first_rows" if "first_rows" in described else "rows"
    return int(require_fields(path, described, {key: is_count}, "the description of a split")[key])


def held_rows(layout: Layout, split: str) -> int:
    """How many rows reach to the end of the last whole shard of a split, under any checkpoint; 0 without one."""
    return max((_held(layout, checkpoint, split) for checkpoint in layout.checkpoints()), default=0)


def _held(layout: Layout, checkpoint: str, split: str) -> int:
    for index in reversed(layout.shards(checkpoint, split)):
        rows = inspect_features(layout.features(checkpoint, split, index), None, None).rows
        if rows is not None:
            return rows.stop
    return 0


def _noted(layout: Layout, split: str) -> int:
    return rows_of(layout, split) if layout.split(split).exists() else 0


def split_shards(layout: Layout, split: str, shard_rows: int) -> Sequence[Rows]:
    """The rows of every shard of a split.

    Raises:
        StoreError: the store knows no such split, or it would have more shards than a store can have.
    """
    shards = shards_of(rows_of(layout, split), shard_rows)
    if len(shards) > MOST_SHARDS:
        found = f"{len(shards):,} shards of {shard_rows:,} rows"
        remedy = "use more features.shard_rows in another store"
        raise StoreError(Problem(str(layout.split(split)), found, f"at most {MOST_SHARDS:,} shards", remedy))
    return shards


def rows_of(layout: Layout, split: str) -> int:
    """The number of rows of a split.

    Raises:
        StoreError: the store knows no such split.
    """
    path = layout.split(split)
    if not (layout.root.is_dir() and wait_until_visible([path])):
        known = ", ".join(layout.described_splits()) or "none"
        remedy = "run trak featurize with this split first"
        raise StoreError(Problem(f"split {split}", "no features of it", f"one of: {known}", remedy))
    return int(require_fields(path, read_json(path), {"rows": is_count}, "the description of a split")["rows"])
