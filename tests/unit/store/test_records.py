"""Records and arrays under a correct digest are checked before they are used, because anyone can compute a digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trak_cli.errors import StoreError
from trak_cli.stages.index.run_plan import VERSION, read_plan
from trak_cli.stages.index.split_sizes import rows_of, split_shards
from trak_cli.store.json_files import replace_json
from trak_cli.store.layout import Layout
from trak_cli.store.safety.records import require_shapes, understanding

PLAN = {"version": VERSION, "engine": "loop", "microbatch": 4, "shard_rows": 4, "strategies": {}, "measured": []}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("microbatch", value) for value in (0, -1, 1.5, "4", None, True, [4], 2**70)),
        *(("shard_rows", value) for value in (0, -4, {}, "x")),
        *(("engine", 3), ("strategies", ["a"]), ("strategies", {"a": 1}), ("measured", {}), ("measured", [{"engine": "x"}])),
        ("version", 99),
    ],
)
def test_a_run_plan_of_other_values_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    layout = Layout(tmp_path)
    replace_json(layout.plan, PLAN)
    assert read_plan(layout) is not None
    replace_json(layout.plan, {**PLAN, key: value})
    with pytest.raises(StoreError, match=r"plan\.json"):
        read_plan(layout)


@pytest.mark.parametrize("rows", [0, -1, 2**60, 1.0, "7", None, [7], {"a": 1}])
def test_a_number_of_rows_that_is_none_is_refused(tmp_path: Path, rows: Any) -> None:
    layout = Layout(tmp_path)
    replace_json(layout.split("train"), {"rows": rows})
    with pytest.raises(StoreError, match="rows"):
        rows_of(layout, "train")


def test_more_shards_than_a_store_can_have_are_refused_and_fewer_take_no_memory(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    replace_json(layout.split("train"), {"rows": 2**50})
    with pytest.raises(StoreError, match="at most 16,777,216 shards"):
        split_shards(layout, "train", 4)
    shards = split_shards(layout, "train", 2**30)
    assert (len(shards), shards[-1].stop, shards[1:3][0].start) == (2**20, 2**50, 2**30)


def test_arrays_of_other_shapes_and_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    require_shapes(tmp_path, {"a": (3, 4)}, {"a": (3, None)}, "a file")
    for shapes in ({}, {"a": (3,)}, {"a": (2, 4)}, {"a": (3, 4, 1)}):
        with pytest.raises(StoreError, match="a of shape"):
            require_shapes(tmp_path, shapes, {"a": (3, None)}, "a file")
    for error in (KeyError("x"), TypeError("x"), ValueError("x"), IndexError("x"), OverflowError("x")):
        with pytest.raises(StoreError, match="do not fit together"), understanding(tmp_path, "a file"):
            raise error
