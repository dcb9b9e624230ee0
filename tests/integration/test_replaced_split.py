"""Other samples under the name of a target split: refused with the option that replaces them, which touches nothing else."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fresh_process import fresh_python
from tiny_project import TARGETS, Project

from trak_cli.store.atomic_write import REMOVED
from trak_cli.store.shards import read_features

CONFIG, STORE, INPUT = 2, 3, 4
OTHER = "dataset.targets.test.seed=9"
REPLACE = "dataset.replace=[test]"
MORE = "+dataset.targets.more={_target_: tiny_plugin.Data, rows: 20, seed: 5}"


def split_files(project: Project, split: str) -> dict[str, bytes]:
    """Every file of a split: features, its length, scores."""
    return {path: data for path, data in project.files().items() if re.search(rf"/{split}[/.]", path)}


def fresh(project: Project, *overrides: str) -> list[list[float]]:
    """The features of the test split, checkpoint a, of a store of its own."""
    project.done("featurize", "store=runs/fresh", *overrides)
    [folder] = (project.folder / "runs" / "fresh").glob("features/a-*")
    return [row for path in sorted((folder / "test").rglob("*.h5")) for row in read_features(path).features.tolist()]


def stored(project: Project) -> list[list[float]]:
    [folder] = project.store.glob("features/a-*")
    return [row for path in sorted((folder / "test").rglob("*.h5")) for row in read_features(path).features.tolist()]


@pytest.mark.parametrize(
    "changed",
    [
        (OTHER,),
        (OTHER, f"dataset.targets.test.rows={TARGETS - 5}"),
        (OTHER, "dataset.targets.test.rows=40"),
        ("dataset.targets.test.rows=1",),
    ],
)
def test_the_option_of_the_message_replaces_the_split_and_removes_its_scores(scored: Project, changed: tuple[str, ...]) -> None:
    scored.done("featurize", MORE)
    scored.done("score", "score.splits=[more]")
    code = STORE if "test.rows" in changed[-1] and "40" not in changed[-1] else INPUT
    message = scored.refused(code, "featurize", *changed, says=("dataset.replace",))
    [option] = {shlex.split(text)[0].rstrip(";") for text in re.findall(r"give ('?dataset\.replace=\S+)", message)}
    before = {split: split_files(scored, split) for split in ("train", "more")}
    scored.done("featurize", *changed, option)
    assert {split: split_files(scored, split) for split in before} == before
    assert not list(scored.store.glob("scores/*/test*"))
    assert stored(scored) == fresh(scored, *changed)
    scored.done("score", "score.splits=[test]", *changed)
    assert list(scored.store.glob("scores/*/test.h5"))


def test_a_change_inside_a_shard_is_found_when_a_replacement_is_asked_for(scored: Project) -> None:
    changed = ("+dataset.targets.test.edit=5",)
    scored.done("featurize", *changed, REPLACE)
    assert stored(scored) == fresh(scored, *changed)
    assert not list(scored.store.glob("scores/*/test*"))


@pytest.mark.parametrize("overrides", [(), ("dataset.targets.test.rows=20",), ("checkpoints=checkpoints/a*",)])
def test_samples_that_are_still_there_keep_their_features_and_scores(scored: Project, overrides: tuple[str, ...]) -> None:
    before = scored.files()
    scored.done("featurize", REPLACE, *overrides)
    after = scored.files()
    kept = [path for path in before if "rows=20" not in str(overrides) or "/test" not in path or "/scores/" in path]
    assert {path: after.get(path) for path in kept} == {path: before[path] for path in kept}


def test_a_replacement_reaches_every_checkpoint_and_estimator_and_kind_of_scores(scored: Project) -> None:
    scored.done("score", "estimator=dot", "score.top_k=3")
    scored.done("featurize", OTHER, REPLACE, "checkpoints=checkpoints/a*")
    assert not list(scored.store.glob("scores/*/test*"))
    assert not [path for folder in scored.store.glob("features/b-*") for path in (folder / "test").rglob("*.h5")]
    scored.refused(STORE, "score", says=("features", "run trak featurize"))


def test_a_replacement_shared_by_workers_is_that_of_one(scored: Project) -> None:
    many = (OTHER, "dataset.targets.test.rows=40", REPLACE)
    for index in (1, 0):
        scored.done("featurize", *many, f"worker.index={index}", "worker.count=2")
    assert stored(scored) == fresh(scored, *many)


def test_outputs_of_retrained_models_for_the_old_samples_forbid_a_replacement(scored: Project) -> None:
    scored.done("retrain", "retrain.subsets=2", "trainer.epochs=1")
    scored.refused(STORE, "featurize", OTHER, REPLACE, says=("lds/retrained", "another name"))


@pytest.mark.parametrize("name", ["train", "nothing"])
def test_only_target_splits_are_replaced(scored: Project, name: str) -> None:
    scored.refused(CONFIG, "featurize", f"dataset.replace=[{name}]", says=("dataset.replace", name))


def test_a_changed_training_set_offers_no_replacement(scored: Project) -> None:
    message = scored.refused(INPUT, "featurize", "dataset.train.seed=9", says=("sample 0 of train",))
    assert "dataset.replace" not in message


@pytest.mark.slow
def test_a_replacement_that_is_killed_anywhere_and_started_again_ends_the_same(
    project_after: Callable[[str], Project], tmp_path: Path
) -> None:
    driver, project = Path(__file__).with_name("kill_driver.py"), project_after("")
    few = "dataset.train.rows=20"
    for stage in ("featurize", "finalize", "score"):
        project.done(stage, few, "checkpoints=checkpoints/a*", "estimator.average_over=[a*]")
    work = tmp_path / "work"
    work.mkdir()
    overrides = (few, OTHER, REPLACE, "checkpoints=checkpoints/a*")
    result = fresh_python(work, str(driver), str(project.folder), str(work), "featurize", *overrides)
    shutil.rmtree(work)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["faults"] == []
    assert report["steps"][REMOVED] >= 3, "complete scores, a shard of scores, a shard of features"
