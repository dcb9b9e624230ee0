"""Fixtures of the integration tests: the tiny project, and copies of its store after each stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_project import Project, call, write_project
from words_project import write_words


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the project after each stage, to be copied: "" (nothing run), featurize, finalize, score."""
    folders = {"": tmp_path_factory.mktemp("finished") / "new"}
    write_project(folders[""])
    with pytest.MonkeyPatch.context() as monkeypatch:
        before = ""
        for stage in ("featurize", "finalize", "score"):
            folders[stage] = folders[""].with_name(stage)
            shutil.copytree(folders[before], folders[stage])
            outcome = call(folders[stage], monkeypatch, stage)
            assert outcome.code == 0, outcome.stderr
            before = stage
    return folders


@pytest.fixture
def project_after(finished: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Project]:
    """A function that copies the project with everything that the named stage and earlier stages wrote."""

    def copy(stage: str) -> Project:
        folder = tmp_path / (stage or "new")
        shutil.copytree(finished[stage], folder)
        return Project(folder, monkeypatch)

    return copy


@pytest.fixture
def project(project_after: Callable[[str], Project]) -> Project:
    """The project before any stage."""
    return project_after("")


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project of a language model before any stage."""
    write_words(tmp_path / "words")
    return Project(tmp_path / "words", monkeypatch)


@pytest.fixture(scope="session")
def words_with_features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the language model's project with features, to be copied."""
    folder = tmp_path_factory.mktemp("finished") / "words"
    write_words(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        outcome = call(folder, monkeypatch, "featurize")
        assert outcome.code == 0, outcome.stderr
    return folder


@pytest.fixture
def featurized_words(words_with_features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project of a language model with features."""
    shutil.copytree(words_with_features, tmp_path / "words")
    return Project(tmp_path / "words", monkeypatch)


@pytest.fixture
def featurized(project_after: Callable[[str], Project]) -> Project:
    """The project with features."""
    return project_after("featurize")


@pytest.fixture
def finalized(project_after: Callable[[str], Project]) -> Project:
    """The project with features and Gram matrices."""
    return project_after("finalize")


@pytest.fixture
def scored(project_after: Callable[[str], Project]) -> Project:
    """The project with features, Gram matrices and scores."""
    return project_after("score")
