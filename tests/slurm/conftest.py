"""One cluster for all tests, a project whose samples take a while on it, and its store as a single process makes it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))  # the tiny project

from kill_driver import contents
from lab import Lab
from slurm_site import Site
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
