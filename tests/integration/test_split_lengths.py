"""The noted length of a split, when samples that are bad, or a kill, come between it and the shards."""

from __future__ import annotations

import pytest
import torch
from tiny_project import ROWS, TARGETS, Project

from trak_cli.stages.index.split_sizes import check_rows, held_rows, rows_of
from trak_cli.stages.inputs.plugins import REPEATED_SAMPLES
from trak_cli.stages.inputs.probes import choose_probes, spread_rows
from trak_cli.stages.inputs.split import Split
from trak_cli.store.json_files import replace_json
from trak_cli.store.layout import Layout

STORE, INPUT = 3, 4

#: Rows of a training set of which some are not read before the first feature; a multiple of the rows of a shard.
LONG = 320

#: Row 60 would be in a shard with rows 48 to 59; its shard comes before that of any target.
GROWN = f"dataset.train.rows={ROWS + 2}"
NEW = "+dataset.targets.new={_target_: tiny_plugin.Data, rows: 5, seed: 3, nan: 2}"


def test_a_bad_appended_sample_leaves_the_store_complete(finalized: Project) -> None:
    before = finalized.files()
    finalized.refused(INPUT, "featurize", GROWN, f"+dataset.train.nan={ROWS}", says=(f"sample {ROWS} of train", "NaN"))
    assert finalized.files() == before
    finalized.done("score")
    finalized.done("featurize")
    finalized.done("featurize", GROWN)
    assert rows_of(Layout(finalized.store), "train") == ROWS + 2


def test_a_target_split_that_cannot_be_featurized_does_not_block_the_others(finalized: Project) -> None:
    finalized.refused(INPUT, "featurize", NEW, says=("sample 2 of new", "NaN"))
    assert Layout(finalized.store).described_splits() == ["test", "train"]
    finalized.done("score")


def test_a_bad_sample_in_the_last_shard_of_a_first_run_may_be_left_out(project: Project) -> None:
    rows, bad = LONG, unread_row(LONG)
    project.refused(
        INPUT, "featurize", f"dataset.train.rows={rows}", f"+dataset.train.nan={bad}", says=(f"sample {bad} of train",)
    )
    layout = Layout(project.store)
    assert held_rows(layout, "train") == rows - 16, "all shards before the last one are complete"
    without = f"dataset.train.rows={bad}"
    project.refused(STORE, "featurize", "dataset.train.rows=47", says=("47 rows", f"at least the {rows - 16}"))
    project.done("featurize", without)
    assert (rows_of(layout, "train"), rows_of(layout, "test")) == (bad, TARGETS)
    project.done("finalize", without)


def unread_row(rows: int) -> int:
    """A row of the last shard that is not read before the first feature."""
    split = Split("train", list(range(rows)), rows, list, torch.device("cpu"))
    return max(set(range(rows - 16, rows)) - set(choose_probes(split).read) - set(spread_rows(rows, REPEATED_SAMPLES)))


def test_a_bad_sample_among_the_probes_is_refused_before_the_first_shard(project: Project) -> None:
    project.refused(INPUT, "featurize", f"+dataset.train.nan={ROWS - 1}", says=(f"sample {ROWS - 1} of train", "NaN"))
    assert not Layout(project.store).checkpoints()


@pytest.mark.parametrize("rows", [ROWS + 1, 10 * ROWS])
def test_a_recorded_length_without_shards_is_corrected(featurized: Project, rows: int) -> None:
    """As it is left by a kill before the first shard with appended rows."""
    layout = Layout(featurized.store)
    replace_json(layout.split("train"), {"rows": rows})
    featurized.done("featurize")
    assert rows_of(layout, "train") == ROWS
    featurized.done("finalize")


def test_a_split_without_shards_may_have_any_length(project: Project) -> None:
    layout = Layout(project.store)
    replace_json(layout.split("train"), {"rows": 1000})
    check_rows(layout, "train", 3)
    project.done("featurize")
