"""A CLIP run from the command line: the simulated batch is drawn once, stored, and the same for every worker and restart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from clip_project import OTHERS, TEST, TRAIN, write_clip_project
from small_project import assert_identical, read_store, stamps
from tiny_project import Outcome, Project, call

from trak_cli.store.container import read_image

pytest.importorskip("PIL")
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with two checkpoints."""
    folder = tmp_path_factory.mktemp("clip") / "project"
    write_clip_project(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        outcome = call(folder, monkeypatch, "train")
        assert outcome.code == 0, outcome.stderr
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    shutil.copytree(trained, tmp_path / "project")
    return Project(tmp_path / "project", monkeypatch)


@pytest.fixture(scope="module")
def with_features(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with features, computed by one process."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("clip") / "whole"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        outcome = call(folder, monkeypatch, "featurize")
    assert outcome.code == 0, outcome.stderr
    return folder


@pytest.fixture
def featurized(with_features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(Path(shutil.copytree(with_features, tmp_path / "whole")), monkeypatch)


def contexts(project: Project) -> dict[str, bytes]:
    files = sorted((project.folder / "runs" / "clip").glob("features/*/context.h5"))
    return {file.parent.name: file.read_bytes() for file in files}


def featurize(project: Project, *arguments: str) -> Outcome:
    return project.done("featurize", *arguments)


def test_from_features_to_scores(project: Project) -> None:
    for stage in ("featurize", "finalize", "score"):
        project.done(stage)
    found = read_store(project.folder / "runs" / "clip")
    assert {(split, len(rows.outputs)) for (_, split), rows in found.items()} == {("train", TRAIN), ("test", TEST)}
    shown = project.done("top", "--target", "0").stdout
    assert "picture" in shown  # captions, for people
    for rows in found.values():
        assert ((rows.out_to_loss > 0) & (rows.out_to_loss < 1)).all()


def test_each_checkpoint_has_its_own_context_of_the_same_pairs(featurized: Project) -> None:
    images = [read_image(file) for file in sorted((featurized.folder / "runs" / "clip").glob("features/*/context.h5"))]
    assert len(images) == 2
    first, second = (image.arrays for image in images)
    assert len(first["rows"]) == OTHERS
    assert (first["rows"] == second["rows"]).all()
    assert not np.allclose(first["context.images"], second["context.images"])
    assert np.allclose(np.linalg.norm(first["context.captions"], axis=1), 1, atol=1e-5)


def test_workers_share_one_context_and_give_the_bytes_of_a_single_run(project: Project, featurized: Project) -> None:
    featurize(project, "worker.index=0", "worker.count=2")
    first = contexts(project)
    featurize(project, "worker.index=1", "worker.count=2")
    assert contexts(project) == first == contexts(featurized)
    stores = [read_store(one.folder / "runs" / "clip") for one in (project, featurized)]
    assert_identical(*stores)


def test_a_restart_reads_the_stored_context_and_gives_the_same_bytes(featurized: Project) -> None:
    before = stamps(featurized.folder / "runs")
    for lost in (featurized.folder / "runs" / "clip").glob("features/*/t*/000/00000.h5"):
        lost.unlink()
    featurize(featurized)
    after = stamps(featurized.folder / "runs")
    assert {name: stamp.content for name, stamp in after.items()} == {name: stamp.content for name, stamp in before.items()}
    for name in after:
        if name.endswith("context.h5"):
            assert after[name] == before[name], "written again"


def test_pairs_that_changed_under_a_stored_context_are_refused(featurized: Project) -> None:
    row = int(read_image(next((featurized.folder / "runs" / "clip").glob("features/*/context.h5"))).arrays["rows"][0])
    table = featurized.folder / "train.csv"
    lines = table.read_text().splitlines()
    lines[1 + row] = lines[1 + row].replace("picture", "photo")
    table.write_text("\n".join(lines) + "\n")
    featurized.refused(4, "featurize", says=(f"sample {row} of train", "different content"))


def test_appended_pairs_leave_the_context_as_it_was(featurized: Project) -> None:
    before = contexts(featurized)
    with (featurized.folder / "train.csv").open("a") as table:
        table.write(f"{TRAIN}.png,a photo\n")
    featurize(featurized)
    assert contexts(featurized) == before


def test_another_seed_is_another_run(featurized: Project) -> None:
    featurized.refused(3, "featurize", "task.seed=1", says=("task.seed",))


def test_doctor_and_retrain_use_the_context_and_write_none(project: Project) -> None:
    before = project.files()
    project.done("doctor")
    assert project.files() == before
    project.done("retrain")
    assert contexts(project) == {}


def test_blends_with_fresh_weights_are_refused(project: Project) -> None:
    """The embeddings of other samples under such weights are not those that f compares with."""
    fresh = ("ensemble.members=1", "ensemble.kind=fresh")
    project.refused(2, "featurize", *fresh, says=("ensemble.kind", "compares a sample with others", "ensemble.kind=mask"))


def test_a_trained_checkpoint_has_no_blends(project: Project) -> None:
    project.done("train", "train.count=1", "trainer.epochs=1", "train.folder=made")
    told = project.done("featurize", "checkpoints=made/*", "store=runs/trained", "--json")
    assert len(json.loads(told.stdout)["checkpoints"]) == 1
