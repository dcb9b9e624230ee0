"""estimator.checkpoint_counts: one setting with which finalize, score and eval-lds compare numbers of checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from tiny_project import ROWS, TARGETS, Project, call, weights, write_project

from trak_cli.store.virtual import read_scores

STORE, CONFIG = 3, 2
COUNTS = "estimator.checkpoint_counts=[1, 3, 11]"


@pytest.fixture(scope="module")
def eleven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the features of eleven checkpoints, epoch_1 to epoch_11, and a ground truth; to be copied."""
    folder = tmp_path_factory.mktemp("eleven") / "project"
    write_project(folder)
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    for number in range(1, 12):
        save_file(weights(number), folder / "checkpoints" / f"epoch_{number}.safetensors")
    generator = np.random.default_rng(0)
    masks = np.stack([generator.permutation(ROWS) < ROWS // 2 for _ in range(12)])
    np.savez(folder / "truth.npz", masks=masks, outputs=generator.normal(size=(12, TARGETS)))
    with pytest.MonkeyPatch.context() as monkeypatch:
        outcome = call(folder, monkeypatch, "featurize")
    assert outcome.code == 0, outcome.stderr
    return folder


@pytest.fixture
def many(eleven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of it."""
    return Project(Path(shutil.copytree(eleven, tmp_path / "many")), monkeypatch)


def scores_of(project: Project, name: str) -> np.ndarray:
    return read_scores(project.store / "scores" / name / "test.h5")


def grams(project: Project) -> list[str]:
    """The epochs whose Gram matrix is stored."""
    return sorted({path.name.split("-")[0] for path in (project.store / "finalized").rglob("*.h5")})


@pytest.mark.parametrize("estimator", ["early_training", "trak", "cosine"])
def test_one_call_of_each_stage_gives_what_a_call_for_each_number_gives(many: Project, estimator: str) -> None:
    options = (f"estimator={estimator}", COUNTS, "lds.ground_truth=truth.npz")
    for stage in ("finalize", "score"):
        many.done(stage, *options)
    sets = json.loads(many.done("eval-lds", *options, "--json").stdout)["score_sets"]
    assert [(one["name"], one["checkpoints"]) for one in sets] == [(f"{estimator}-{n}", n) for n in (1, 3, 11)]
    assert [one["difference"] and one["difference"]["second"] for one in sets] == [None, *[f"{estimator}-1"] * 2]
    for count in (1, 3, 11):
        patterns = ", ".join(f"epoch_{number}-*" for number in range(1, count + 1))
        single = (f"estimator={estimator}", f"estimator.name=single{count}", f"estimator.average_over=[{patterns}]")
        many.done("score", *single)
        np.testing.assert_array_equal(scores_of(many, f"{estimator}-{count}"), scores_of(many, f"single{count}"))


def test_gram_matrices_are_computed_once_for_all_numbers(many: Project) -> None:
    many.done("finalize", "estimator.checkpoint_counts=[3, 1]")
    assert grams(many) == ["epoch_1", "epoch_2", "epoch_3"]
    summary = json.loads(many.done("finalize", "estimator.checkpoint_counts=[5, 2]", "--json").stdout)
    assert [gram["reused"] for gram in summary["grams"]] == [True, True, True, False, False]
    assert grams(many) == [f"epoch_{n}" for n in (1, 2, 3, 4, 5)]


def test_numbers_count_among_the_checkpoints_that_are_averaged_over(many: Project) -> None:
    options = ("estimator.average_over=[epoch_1*, epoch_9*]", "estimator.checkpoint_counts=[2, 4]", "estimator=cosine")
    summary = json.loads(many.done("score", *options, "--json").stdout)
    assert [(one["estimator"], one["checkpoints"]) for one in summary["splits"]] == [("cosine-2", 2), ("cosine-4", 4)]
    many.done("score", "estimator=cosine", "estimator.name=two", "estimator.average_over=[epoch_1-*, epoch_9-*]")
    np.testing.assert_array_equal(scores_of(many, "cosine-2"), scores_of(many, "two"))
    many.refused(CONFIG, "score", "estimator.checkpoint_counts=[2, 5]", *options[::2], says=("5 checkpoints", "at most the 4"))


def test_workers_share_every_number(many: Project) -> None:
    options = ("estimator=dot", "estimator.checkpoint_counts=[1, 2]")
    many.done("score", *options, "worker.index=0", "worker.count=2")
    many.done("score", *options, "worker.index=1", "worker.count=2")
    again = json.loads(many.done("score", *options, "--json").stdout)
    assert [(one["written"], one["complete"]) for one in again["splits"]] == [(0, True)] * 2


def test_the_tables_show_the_numbers(many: Project) -> None:
    options = ("estimator=dot", "estimator.checkpoint_counts=[1, 11]", "lds.ground_truth=truth.npz")
    scores = many.done("score", *options).stdout
    table = many.done("eval-lds", *options).stdout
    for count in (1, 11):
        assert f"dot-{count}/" in scores
        (line,) = (line for line in table.splitlines() if line.startswith(f"dot-{count} "))
        assert line.split()[1] == str(count)
    assert "difference from dot-1" in table
    assert "estimator dot-11" in many.done("top", *options).stdout


@pytest.mark.parametrize(
    ("counts", "says"),
    [("[0, 1]", ("checkpoint_counts", "≥ 1", "checkpoint_counts=[1]")), ("[1, 12]", ("12 checkpoints", "at most the 11"))],
)
def test_numbers_that_there_are_not_are_refused(many: Project, counts: str, says: tuple[str, ...]) -> None:
    for stage in ("finalize", "score"):
        many.refused(CONFIG, stage, f"estimator.checkpoint_counts={counts}", says=says)


def test_every_number_without_scores_is_named(many: Project) -> None:
    many.done("score", "estimator=dot", "estimator.checkpoint_counts=[3]")
    options = ("estimator=dot", "estimator.checkpoint_counts=[1, 3, 5]", "lds.ground_truth=truth.npz")
    refusal = many.refused(STORE, "eval-lds", *options, says=("scores of estimator dot-1 ", "scores of estimator dot-5 "))
    assert "scores of estimator dot-3 " not in refusal


def test_no_name_of_a_number_is_taken_twice(many: Project) -> None:
    options = ("estimator=dot", "estimator.checkpoint_counts=[1, 3]", "lds.scores={dot-3: theirs.npy}")
    many.refused(CONFIG, "eval-lds", *options, says=("lds.scores.dot-3", "another name"))


def test_numbers_leave_the_scores_of_all_checkpoints_alone(many: Project) -> None:
    many.done("score", "estimator=dot")
    path = Path(many.store / "scores" / "dot" / "test.h5")
    before = path.read_bytes()
    many.done("score", "estimator=dot", "estimator.checkpoint_counts=[2]")
    assert path.read_bytes() == before
