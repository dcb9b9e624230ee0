"""``trak run``: featurize, finalize and score in one command."""

from __future__ import annotations

import json

from small_project import assert_identical, read_store, stamps
from tiny_project import Project

from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores


def test_one_command_does_what_the_three_do_and_a_second_one_finds_everything_done(project: Project, scored: Project) -> None:
    summary = json.loads(project.done("run", "--json").stdout)
    assert list(summary) == ["featurize", "finalize", "score"]
    assert summary["score"]["splits"][0]["complete"]
    assert_identical(read_store(project.store), read_store(scored.store))
    found, expected = (read_scores(Layout(one.store).scores("early_training", "test")) for one in (project, scored))
    assert found.tobytes() == expected.tobytes()
    before = stamps(project.store)
    again = json.loads(project.done("run", "--json").stdout)
    assert [split["written"] for split in again["score"]["splits"]] == [0]
    assert stamps(project.store) == before


def test_the_process_that_finishes_last_goes_on(project: Project) -> None:
    first = project.done("run", "worker.index=0", "worker.count=2").stdout
    assert "left to the process that finishes featurize last" in first
    assert not (project.store / "scores").exists()
    last = json.loads(project.done("run", "worker.index=1", "worker.count=2", "--json").stdout)
    assert len(last["finalize"]["grams"]) == 2
    assert last["score"]["splits"][0]["complete"]


def test_the_stage_that_refuses_is_named(project: Project) -> None:
    project.refused(4, "run", "dataset.train.label=3", says=("trak featurize stopped", "sample 3 of train"))
    project.refused(2, "run", "estimator=trak", "estimator.ridge=0", "projection.dim=512", says=("trak finalize stopped",))
    project.refused(2, "run", "projection.dim=512", "score.splits=[train]", says=("trak score stopped", "score.splits"))
