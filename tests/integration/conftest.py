"""What the integration tests share: the tiny project, stores of it in every stage, and the program itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tiny_project import write_project
from typer.testing import CliRunner

from trak_cli.cli.app import app


@dataclass(frozen=True)
class Outcome:
    """How one call of the program ended."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Project:
    """A folder with the tiny project; ``store`` is where its run is."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def store(self) -> Path:
        return self.folder / "runs" / "tiny"

    def trak(self, stage: str, *arguments: str) -> Outcome:
        """Call the program in this process, in the project's folder."""
        return call(self.folder, self.monkeypatch, stage, *arguments)

    def done(self, stage: str, *arguments: str) -> Outcome:
        """Call the program where it must succeed."""
        outcome = self.trak(stage, *arguments)
        assert outcome.code == 0, outcome.stderr
        return outcome

    def refused(self, code: int, stage: str, *arguments: str, says: tuple[str, ...]) -> str:
        """Call the program where it must refuse: the exit code, every part of the problems, nothing written changed.

        Args:
            code: the documented exit code.
            says: texts that the message must contain (where, found and expected of the problems).
        """
        before = self.files()
        outcome = self.trak(stage, *arguments)
        assert outcome.code == code, outcome.stdout + outcome.stderr
        assert "Traceback" not in outcome.stderr
        for text in (*says, "found:", "expected:", "do:"):
            assert text in outcome.stderr, f"{text!r} is not in\n{outcome.stderr}"
        after = self.files()
        assert {path: after.get(path) for path in before} == before, "a file that was there has changed"
        assert not list(self.folder.rglob("*.tmp"))
        return outcome.stderr

    def files(self) -> dict[str, bytes]:
        """Everything in the store and among the checkpoints."""
        folders = (self.folder / "runs", self.folder / "checkpoints")
        return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}

    def shard(self, split: str = "train", index: int = 0, checkpoint: str = "a") -> Path:
        """A feature shard of the store."""
        (folder,) = self.store.glob(f"features/{checkpoint}-*")
        return folder / split / f"{index:05}.h5"


def call(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Outcome:
    """One call of the program in this process; an exception that is no exit is a bug, and raised."""
    with monkeypatch.context() as context:
        context.chdir(folder)
        stage, *rest = arguments
        result = CliRunner().invoke(app, [stage, "-d", ".", *rest])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The project after each stage, to be copied: "" (nothing run), featurize, finalize, score."""
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
    """A copy of the project with everything that the named stage and those before it wrote."""

    def copy(stage: str) -> Project:
        folder = tmp_path / (stage or "new")
        shutil.copytree(finished[stage], folder)
        return Project(folder, monkeypatch)

    return copy


@pytest.fixture
def project(project_after: Callable[[str], Project]) -> Project:
    """The project before anything was run."""
    return project_after("")


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
