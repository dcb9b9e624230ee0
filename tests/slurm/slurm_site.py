"""A project on the cluster of the tests."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kill_driver import contents
from lab import Lab, wait_for
from tiny_project import call


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
        assert [name for name, one in found.items() if self.expected[name] != one] == []

    def log(self, stage: str, job: str, task: int) -> str:
        """What a task has printed; empty before it begins."""
        path = self.store / "logs" / stage / f"{job}_{task}_0_log.out"
        return path.read_text() if path.exists() else ""
