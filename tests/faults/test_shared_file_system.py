"""Stages on a file system that shows files late, reads and writes in pieces, and fails; and workers that are killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("gcc") is None, reason="needs Linux and gcc")
def test_stages_end_right_or_with_a_plain_refusal_on_a_failing_file_system() -> None:
    outcome = run("shared_file_system.py", "--cases", "8", "--seed", "5")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr[-3000:]
    assert "8 cases" in outcome.stdout


@pytest.mark.slow
def test_killed_workers_lose_nothing_and_leave_nothing() -> None:
    outcome = run("kill_storm.py", "--kills", "8", "--workers", "2", "--seed", "5")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr[-3000:]
    assert outcome.stdout.startswith("8 kills")
