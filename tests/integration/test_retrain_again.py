"""Ground truth, Gram matrices and scores are resumed: with other data, next to another worker, by a new version."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_project import Project

from trak_cli.stages import retrain
from trak_cli.stages.scoring import gram_parts
from trak_cli.stages.scoring.score_store import ScoreFiles
from trak_cli.store.container import read_image
from trak_cli.store.publish import write_image

STORE, INPUT = 3, 4

FEW = ("retrain.subsets=4", "retrain.models_per_subset=1", "trainer.epochs=1")


@pytest.fixture
def retrained(scored: Project) -> Project:
    """With a ground truth of four subsets."""
    scored.done("retrain", *FEW)
    return scored


def subsets(project: Project) -> list[Path]:
    return sorted((project.store / "lds" / "retrained").glob("*.h5"))


@pytest.mark.parametrize("other", ["dataset.train.seed=7", "dataset.targets.test.seed=7", "+dataset.train.edit=59"])
def test_other_data_of_the_same_length_is_not_mixed_in(retrained: Project, other: str) -> None:
    says = (f"of {'test' if 'test' in other else 'train'}", "different content", "another store")
    retrained.refused(INPUT, "retrain", *FEW, other, says=says)
    retrained.refused(INPUT, "retrain", *FEW, "retrain.subsets=6", other, says=says)
    for path in subsets(retrained)[1::2]:
        path.unlink()
    retrained.refused(INPUT, "retrain", *FEW, other, "worker.index=1", "worker.count=2", says=says)


def test_subsets_of_several_data_sets_are_no_ground_truth(retrained: Project) -> None:
    retrained.done("eval-lds")
    retrained.done("retrain", *FEW, "store=runs/other", "dataset.train.seed=7")
    theirs = retrained.folder / "runs" / "other" / "lds" / "retrained" / "00002.h5"
    shutil.copy(theirs, subsets(retrained)[2])
    retrained.refused(STORE, "eval-lds", says=("00002.h5", "sample 0 of train", "one data set"))


def test_a_ground_truth_without_digests_is_used_and_added_to(retrained: Project) -> None:
    for path in subsets(retrained):
        image = read_image(path)
        old = {name: array for name, array in image.arrays.items() if name == "mask" or name.startswith("outputs_")}
        write_image(path, old, image.fingerprint, image.provenance, overwrite=True)
    before = retrained.files()
    assert trained_now(retrained) == 0
    assert retrained.files() == before
    assert trained_now(retrained, "retrain.subsets=5") == 1
    retrained.done("eval-lds")


def trained_now(project: Project, *options: str) -> int:
    return int(json.loads(project.done("retrain", *FEW, *options, "--json").stdout)["trained"])


def test_models_that_another_worker_finishes_are_not_trained_again(
    scored: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored.done("retrain", *FEW, "store=runs/other")
    theirs = scored.folder / "runs" / "other" / "lds" / "retrained"
    beside_another(
        monkeypatch, retrain, "write_image", lambda: shutil.copytree(theirs, subsets_folder(scored), dirs_exist_ok=True)
    )
    assert trained_now(scored) == 1
    assert len(subsets(scored)) == 4


def subsets_folder(project: Project) -> Path:
    return project.store / "lds" / "retrained"


def test_a_gram_matrix_that_another_worker_finishes_meanwhile_is_not_summed_again(
    project_after: Callable[[str], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    featurized, theirs = project_after("featurize"), project_after("finalize")
    beside_another(
        monkeypatch,
        gram_parts,
        "write_gram",
        lambda: shutil.copytree(theirs.store / "finalized", featurized.store / "finalized", dirs_exist_ok=True),
    )
    grams = json.loads(featurized.done("finalize", "--json").stdout)["grams"]
    assert [gram["reused"] for gram in grams] == [False, True]


def test_a_block_of_scores_that_another_worker_finishes_meanwhile_is_not_computed_again(
    project_after: Callable[[str], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    finalized, theirs = project_after("finalize"), project_after("score")
    blocks = theirs.store / "scores" / "early_training" / "test"
    ours = finalized.store / "scores" / "early_training" / "test"
    beside_another(monkeypatch, ScoreFiles, "write", lambda: shutil.copytree(blocks, ours, dirs_exist_ok=True))
    (split,) = json.loads(finalized.done("score", "--json").stdout)["splits"]
    assert (split["written"], split["complete"]) == (1, True)
    assert split["already_there"] == len([*ours.rglob("*.h5")]) - 1 > 0


def beside_another(monkeypatch: pytest.MonkeyPatch, stage: Any, name: str, finish: Callable[[], object]) -> None:
    """As soon as the stage has written its first file, everything is there."""
    write = getattr(stage, name)

    def and_finish(*arguments: Any, **named: Any) -> Any:
        written = write(*arguments, **named)
        finish()
        return written

    monkeypatch.setattr(stage, name, and_finish)
