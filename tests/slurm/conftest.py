"""One cluster for all tests, a project whose samples take a while on it, and its store as a single process makes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))  # the tiny project

from kill_driver import contents
from lab import Lab, wait_for
from tiny_project import call, write_project

#: Data whose samples take as long as the file ``pause`` says, in seconds, once the model has been checked.
SLOW = """

class Slow(Data):
    def __getitem__(self, row):
        import pathlib, time
        if pathlib.Path("runs/tiny/plan.json").exists():
            time.sleep(float(pathlib.Path("pause").read_text()))
        return super().__getitem__(row)
"""


@dataclass
class Site:
    """The project in a folder, with a cluster.

    Attributes:
        expected: what a single process stores.
    """

    lab: Lab
    folder: Path
    expected: dict[str, Any]
    monkeypatch: pytest.MonkeyPatch

    @property
    def store(self) -> Path:
        return self.folder / "runs" / "tiny"

    def pause(self, seconds: float) -> None:
        """How long a sample takes from now on."""
        (self.folder / "pause").write_text(str(seconds))

    def submit(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """``trak submit`` in the folder; it must end with this exit code."""
        done = self.start("submit", *arguments)
        out, err = done.communicate(timeout=120)
        assert done.returncode == code, out + err
        return subprocess.CompletedProcess(done.args, code, out, err)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """``trak`` in the folder, without waiting for it."""
        command = [sys.executable, "-m", "trak_cli", arguments[0], "-d", ".", *arguments[1:]]
        environment = {**self.lab.environment, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=pipe, stderr=pipe, text=True)

    def shards(self) -> int:
        """Stored shards of features."""
        return len(list(self.store.glob("features/*/*/*/*.h5")))

    def wait_for_shards(self, count: int) -> None:
        """Wait until so many are stored."""
        wait_for(lambda: self.shards() >= count, 60, f"{count} shards")

    def require_identical(self) -> None:
        """The store holds what a single process stores, to the last bit, and no temporary file.

        Stages that no test submits are run here.
        """
        for stage in ("finalize", "score"):
            if not (self.store / "logs" / stage).exists():
                assert call(self.folder, self.monkeypatch, stage).code == 0
        found = {name: one for name, one in contents(self.folder).items() if not name.startswith("tiny/logs/")}
        assert set(found) == set(self.expected)
        del found["tiny/config.yaml"]  # of the first worker, whose number it holds
        assert [name for name, one in found.items() if self.expected[name] != one] == []

    def log(self, stage: str, job: str, task: int) -> str:
        """What a task has printed."""
        return (self.store / "logs" / stage / f"{job}_{task}_0_log.out").read_text()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    cluster = Lab(tmp_path_factory.mktemp("lab"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after featurize, finalize and score in this process."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("single") / "project"
    write_project(folder)
    plugin, config = folder / "tiny_plugin.py", folder / "tiny.yaml"
    plugin.write_text(plugin.read_text() + SLOW)
    config.write_text(config.read_text().replace("tiny_plugin.Data", "tiny_plugin.Slow"))
    (folder / "pause").write_text("0")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for stage in ("featurize", "finalize", "score"):
            outcome = call(folder, monkeypatch, stage)
            assert outcome.code == 0, outcome.stderr
    return folder


@pytest.fixture
def site(lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The project before any stage, and a cluster without jobs."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    yield Site(lab, folder, contents(finished), monkeypatch)
    lab.cancel_all()


@pytest.fixture
def job_number(site: Site) -> Callable[[str], str]:
    """The number of the latest job of a stage."""
    return lambda stage: max((path.stem for path in (site.store / "logs" / stage).glob("*.sbatch")), key=int)
