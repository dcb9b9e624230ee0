"""A stage that is killed at any moment and started again ends with the very files of a run that was left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import trak_cli
from trak_cli.store import STEPS

DRIVER = Path(__file__).with_name("kill_driver.py")


@pytest.mark.parametrize(
    ("stage", "before", "overrides", "files"),
    [
        pytest.param("featurize", "", ("dataset.train.rows=20", "checkpoints=checkpoints/a*"), 8, id="featurize"),
        pytest.param("finalize", "featurize", (), 2, id="finalize"),
        pytest.param("score", "finalize", ("score.target_block=12",), 5, id="score"),
        pytest.param("score", "finalize", ("score.target_block=12", "score.top_k=3"), 5, id="score-top-k"),
    ],
)
def test_killed_anywhere_and_restarted(
    finished: dict[str, Path], tmp_path: Path, stage: str, before: str, overrides: tuple[str, ...], files: int
) -> None:
    """Every step of the write protocol of every file, and 20 random moments: same datasets, same fingerprints, no leftovers."""
    result = subprocess.run(
        [sys.executable, str(DRIVER), str(finished[before]), str(tmp_path), stage, *overrides],
        env={"PYTHONPATH": str(Path(trak_cli.__file__).parents[1]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["faults"] == []
    assert report["files"] == files
    assert set(report["steps"]) == set(STEPS)
    assert report["steps"]["created"] == files
    assert report["random"] == 20
