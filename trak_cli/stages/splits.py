"""How many rows each split has: noted by featurize for the stages that load no data. A split may grow, never shrink."""

from __future__ import annotations

from trak_cli.errors import Problem, StoreError
from trak_cli.store import Layout, read_json, replace_json, write_json_once


def check_rows(layout: Layout, split: str, rows: int) -> None:
    """Refuse a split that has become shorter.

    Raises:
        StoreError: it was longer before.
    """
    before = rows_of(layout, split) if layout.split(split).exists() else 0
    if rows < before:
        raise StoreError(
            Problem(
                f"split {split}",
                f"{rows} rows in the dataset",
                f"at least the {before} that {layout.root} was made from",
                "give back the missing rows (only appending is possible), or use another store",
            )
        )


def record_rows(layout: Layout, split: str, rows: int) -> None:
    """Note the length of a split, or its new, larger length after samples were appended.

    Raises:
        StoreError: the split was longer before.
    """
    check_rows(layout, split, rows)
    path = layout.split(split)
    write_json_once(path, {"rows": rows})
    if rows > rows_of(layout, split):
        replace_json(path, {"rows": rows})


def rows_of(layout: Layout, split: str) -> int:
    """The number of rows of a split.

    Raises:
        StoreError: the store knows no such split.
    """
    path = layout.split(split)
    if not path.exists():
        known = ", ".join(layout.described_splits()) or "none"
        raise StoreError(
            Problem(f"split {split}", "no features of it", f"one of: {known}", "run trak featurize with this split first")
        )
    rows = read_json(path).get("rows")
    if not isinstance(rows, int) or rows < 1:
        raise StoreError(Problem(str(path), repr(rows), "a number of rows", "run trak featurize again"))
    return rows
