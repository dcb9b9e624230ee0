"""``trak top`` where the store or the data set is another one than when the scores were made."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tiny_project import ROWS, TARGETS, Project

STORE, INPUT = 3, 4

DESCRIBING = """
class Described:
    def __init__(self, rows, seed=0):
        self.rows = rows

    def __len__(self):
        return self.rows

    def describe(self, row):
        return [f"row number {number}" for number in range(self.rows)][row]
"""


@pytest.mark.parametrize("kept", [(), ("score.top_k=3",)])
def test_a_target_that_was_added_after_scoring(project_after: Callable[[str], Project], kept: tuple[str, ...]) -> None:
    project = project_after("finalize")
    project.done("score", *kept)
    project.done("featurize", f"dataset.targets.test.rows={TARGETS + 1}")
    says = (f"({TARGETS}, {ROWS})", f"({TARGETS + 1}, {ROWS})", "score.overwrite=true")
    project.refused(STORE, "top", "--target", "3", "--target", str(TARGETS), "-k", "2", says=says)
    project.done("top", "--target", "3", "-k", "2")


def test_rows_that_the_dataset_does_not_have_cannot_be_described(scored: Project) -> None:
    (scored.folder / "describing_plugin.py").write_text(DESCRIBING)
    described = ("dataset.train._target_=describing_plugin.Described", "--target", "0", "-k", str(ROWS))
    assert "row number 59" in scored.done("top", *described).stdout
    scored.refused(INPUT, "top", *described, "dataset.train.rows=5", says=("dataset.train: describe(", "IndexError"))


def test_more_scores_than_are_kept_are_refused_with_how_many_there_are(scored: Project) -> None:
    scored.done("score", "score.top_k=3", "estimator.name=ends")
    scored.refused(2, "top", "estimator.name=ends", says=("at most 3", "give -k 3"))
    assert scored.done("top", "estimator.name=ends", "-k", "3").stdout


@pytest.mark.parametrize("name", ["samples.png", "new/samples.svg"])
def test_the_picture_of_the_samples(scored: Project, name: str) -> None:
    pytest.importorskip("matplotlib")
    scored.done("top", "--target", "0", "--target", "3", "-k", "2", "--plot", name)
    begins = {".png": b"\x89PNG", ".svg": b"<?xml"}[(scored.folder / name).suffix]
    assert (scored.folder / name).read_bytes().startswith(begins)


def test_a_picture_of_another_kind_is_refused_before_anything_is_read(scored: Project) -> None:
    scored.refused(2, "top", "--plot", "samples.txt", says=("--plot", ".png"))


BUILT_ONCE = """
from pathlib import Path

class Built:
    def __init__(self, rows, seed=0):
        self.rows = rows
        with Path(__file__).with_name("built.txt").open("a") as log:
            log.write("built\\n")

    def __len__(self):
        return self.rows

    def describe(self, row):
        return {"text": f"row number {row}", "label": 0}
"""


def test_a_picture_does_not_build_the_data_sets_again(scored: Project) -> None:
    (scored.folder / "built_plugin.py").write_text(BUILT_ONCE)
    picture = scored.folder / "top.png"
    scored.done("top", "dataset.train._target_=built_plugin.Built", "--target", "0", "--plot", str(picture))
    assert picture.stat().st_size > 0
    assert (scored.folder / "built.txt").read_text() == "built\n"


@pytest.mark.parametrize("command", ["top", "report", "suspects"])
def test_the_help_names_the_splits_of_the_run(scored: Project, command: str) -> None:
    scored.done("featurize", "+dataset.targets.mine={_target_: tiny_plugin.Data, rows: 3, seed: 5}")
    shown = " ".join(scored.done(command, "--help").stdout.replace("│", " ").split())
    assert "This run has: mine, test." in shown
    elsewhere = scored.done(command, "store=runs/none", "--help").stdout
    assert "This run has" not in elsewhere
    assert "Examples" in scored.done(command, "model=no_such_model", "--help").stdout
