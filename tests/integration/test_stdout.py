"""Results that cannot be printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_project import Project

MACHINE = 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_disk_under_stdout_is_reported(featurized: Project, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "trak_cli", "status", "-d", ".", *options]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, cwd=featurized.folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == MACHINE, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "stdout" in ended.stderr
    assert "ENOSPC" in ended.stderr


def test_a_closed_pipe_is_not_an_error(featurized: Project) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "trak_cli", "status", "-d", "."]
    ended = subprocess.run(command, cwd=featurized.folder, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert ended.returncode == 0, ended.stderr
    assert "Error" not in ended.stderr
