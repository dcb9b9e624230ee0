"""`trak eval-lds` with the score files of other stores in lds.scores: compared with ours if they score the same samples."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from fresh_process import fresh_python
from tiny_project import ROWS, TARGETS, Project

STORE, INPUT = 3, 4
TRUTH = "lds.ground_truth=truth.npz"
OTHER = "store=runs/other"
FILE = "runs/other/scores/early_training/test.h5"
SCORES = f"lds.scores={{other: {FILE}}}"


@pytest.fixture
def project(scored: Project) -> Project:
    """The project with scores and a ground truth in a file."""
    generator = np.random.default_rng(0)
    masks = np.stack([generator.permutation(ROWS) < ROWS // 2 for _ in range(12)])
    np.savez(scored.folder / "truth.npz", masks=masks, outputs=generator.normal(size=(12, TARGETS)))
    return scored


def make_other(project: Project, *overrides: str) -> Path:
    """Features and scores in another store; the file of its scores."""
    for stage in ("featurize", "finalize", "score"):
        project.done(stage, OTHER, *overrides)
    return project.folder / FILE


def evaluated(project: Project, *overrides: str) -> dict[str, dict]:
    """Name -> what `trak eval-lds` says of the scores."""
    document = json.loads(project.done("eval-lds", TRUTH, *overrides, "--json").stdout)
    return {one["name"]: one for one in document["score_sets"]}


@pytest.mark.parametrize(
    "overrides",
    [
        ("seed=1",),
        ("gradients.engine=loop", "features.shard_rows=7", "score.target_block=5"),
        ("checkpoints=checkpoints/b.pt", "features.dtype=float16"),
        ("projection.kind=none", "estimator.ridge=0.5"),
    ],
    ids=["seed", "shards", "checkpoint", "projection"],
)
def test_scores_of_another_store_are_evaluated_as_in_their_own(project: Project, overrides: tuple[str, ...]) -> None:
    make_other(project, *overrides)
    own = evaluated(project, OTHER)["early_training"]
    both = evaluated(project, SCORES)
    assert both["other"]["per_target"] == own["per_target"]
    assert both["other"]["lds"]["estimate"] == own["lds"]["estimate"]
    assert both["other"]["checkpoints"] == own["checkpoints"] == (1 if "checkpoints=checkpoints/b.pt" in overrides else 2)
    assert both["other"]["difference"]["second"] == "early_training"


def test_a_split_of_another_name_and_a_store_that_was_moved(project: Project) -> None:
    renamed = ("~dataset.targets.test", "+dataset.targets.val={_target_: tiny_plugin.Data, rows: 12, seed: 2}")
    make_other(project, *renamed)
    own = evaluated(project, OTHER)["early_training"]
    (project.folder / "runs" / "other").rename(project.folder / "runs" / "new place")
    moved = "runs/new place/scores/early_training/val.h5"
    (project.folder / "link.h5").symlink_to(project.folder / moved)
    outcome = project.done("eval-lds", TRUTH, f"lds.scores={{moved: '{moved}', link: link.h5}}")
    assert "not compared" not in outcome.stderr
    sets = json.loads((project.store / "lds" / "test.json").read_text())["scores"]
    assert [one["per_target"] for one in sets[1:]] == [own["per_target"]] * 2


def test_scores_without_the_features_of_their_store_are_taken_with_a_note(project: Project) -> None:
    make_other(project)
    shutil.copytree(project.folder / "runs" / "other" / "scores" / "early_training", project.folder / "theirs")
    outcome = project.done("eval-lds", TRUTH, "lds.scores={other: theirs/test.h5}")
    assert outcome.stderr.count("not compared, because one of the stores has no features of them") == 2


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("dataset.train.seed=7",), ("split train", f"{ROWS} samples unlike those of", "first in row 0")),
        (("dataset.targets.test.seed=7",), ("split test", f"{TARGETS} samples unlike those of")),
        (("+dataset.train.edit=37",), ("split train", "1 sample unlike those", "first in row 37")),
    ],
    ids=["train", "targets", "one sample"],
)
def test_other_samples_are_refused_by_their_digests(
    project: Project, overrides: tuple[str, ...], says: tuple[str, ...]
) -> None:
    make_other(project, *overrides)
    project.refused(INPUT, "eval-lds", TRUTH, SCORES, says=("lds.scores.other", *says, "the same samples in the same order"))


def test_the_same_samples_in_another_order_are_refused_as_such(project: Project) -> None:
    (project.folder / "turned.py").write_text(
        "from tiny_plugin import Data\n\n\nclass Turned(Data):\n    def __getitem__(self, row):\n"
        "        return super().__getitem__((row + 1) % self.rows if 0 <= row < self.rows else row)\n"
    )
    make_other(project, "dataset.train._target_=turned.Turned")
    says = ("split train", f"{ROWS} samples unlike those of", "the same samples in another order", "one order in both stores")
    refusal = project.refused(INPUT, "eval-lds", TRUTH, SCORES, says=says)
    assert "python -c" not in refusal, "the rows of a copy would be in that other order too"


def test_the_remedy_for_samples_in_another_form_is_a_command_that_works(project: Project) -> None:
    make_other(project, "dataset.train.seed=7")
    refusal = project.refused(INPUT, "eval-lds", TRUTH, SCORES, says=("give test.npy, made by",))
    command = shlex.split(refusal.partition("made by: ")[2].partition("\n")[0])
    done = fresh_python(project.folder, *command[1:])
    assert done.returncode == 0, done.stderr
    own = evaluated(project, OTHER, "dataset.train.seed=7")["early_training"]
    assert evaluated(project, "lds.scores={other: test.npy}")["other"]["per_target"] == own["per_target"]


@pytest.mark.parametrize("rows", [ROWS - 1, ROWS + 4])
def test_another_number_of_rows_is_refused(project: Project, rows: int) -> None:
    make_other(project, f"dataset.train.rows={rows}")
    says = ("lds.scores.other", f"({TARGETS}, {rows})", f"({TARGETS}, {ROWS})")
    project.refused(INPUT, "eval-lds", TRUTH, SCORES, says=says)


@pytest.mark.parametrize("harm", ["missing", "damaged", "changed"])
def test_a_part_that_is_missing_or_has_changed_is_refused(project: Project, harm: str) -> None:
    make_other(project)
    block = project.folder / "runs" / "other" / "scores" / "early_training" / "test" / "0000" / "000" / "00001.h5"
    if harm == "missing":
        block.unlink()
    elif harm == "damaged":
        block.write_bytes(block.read_bytes()[:-1] + b"\x99")
    else:
        shutil.copy(block.with_name("00002.h5"), block)
    project.refused(STORE, "eval-lds", TRUTH, SCORES, says=(block.name,))


@pytest.mark.parametrize("part", ["test", "test/0000/000/00001.h5"])
def test_nothing_outside_the_folder_of_the_scores_is_followed(project: Project, part: str) -> None:
    path = make_other(project).parent / part
    outside = project.folder / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    project.refused(INPUT, "eval-lds", TRUTH, SCORES, says=("lds.scores.other", "a link to another folder", "outside"))


def test_what_is_not_the_complete_scores_is_refused_with_what_to_give(project: Project) -> None:
    make_other(project)
    project.done("score", OTHER, "score.top_k=3", "estimator.name=kept")
    unit = "runs/other/scores/early_training/test/0000/000/00000.h5"
    for file, says in (
        ("runs/other", ("a folder", f"give one of: {FILE}")),
        ("runs/other/scores/early_training", ("a folder", "give STORE/scores/ESTIMATOR/SPLIT.h5")),
        ("runs/other/scores/kept/test.topk.h5", ("only the highest and lowest scores", "score.top_k=null")),
        (unit, ("only part of a store", "give STORE/scores/ESTIMATOR/SPLIT.h5")),
    ):
        project.refused(INPUT, "eval-lds", TRUTH, f"lds.scores={{other: {file}}}", says=(file, *says))


def test_every_problem_of_several_files_is_reported(project: Project) -> None:
    make_other(project, "dataset.train.seed=7", "dataset.targets.test.seed=8")
    files = f"lds.scores={{one: {FILE}, two: nothing.npy, three: runs}}"
    says = ("lds.scores.one", "split train", "split test", "nothing.npy", "lds.scores.three (runs)")
    project.refused(INPUT, "eval-lds", TRUTH, files, says=says)
