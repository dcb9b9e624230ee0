"""A stage that is killed at any moment and started again ends with the very files of a run that was left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fresh_process import fresh_python
from tiny_project import call

from trak_cli.store.atomic_write import REMOVED, STEPS

DRIVER = Path(__file__).with_name("kill_driver.py")


#: Three steps: a sweep saves its progress twice, and removes it in the end.
UNROLLED = (
    *("trainer.epochs=1", "trainer.batch_size=7", "unroll.save_minutes=0"),
    *("unroll.targets=[3]", "unroll.removals=1"),
)

#: Two shards of training rows and one of targets: the fewest files that have a first and a second shard.
FEW_ROWS = "dataset.train.rows=20"


@pytest.fixture(scope="module")
def before(finished: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The project of few rows as each stage finds it."""
    folder = tmp_path_factory.mktemp("before")
    folders = {"featurize": finished[""], "retrain": finished[""], "unroll": finished[""]}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for stage, following in (("featurize", "finalize"), ("finalize", "score")):
            folders[following] = folder / following
            shutil.copytree(folders[stage], folders[following])
            outcome = call(folders[following], monkeypatch, stage, FEW_ROWS)
            assert outcome.code == 0, outcome.stderr
    return folders


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "overrides", "files"),
    [
        # The run plan, two splits, the checkpoint's fingerprint, the configuration; three shards.
        pytest.param("featurize", ("checkpoints=checkpoints/a*",), 8, id="featurize"),
        pytest.param("finalize", (), 2, id="finalize"),
        # Two shards, and the complete scores.
        pytest.param("score", ("score.target_block=12",), 3, id="score"),
        pytest.param("score", ("score.target_block=12", "score.top_k=3", "worker.part_rows=16"), 3, id="score-top-k"),
        # The full run, and two random subsets.
        pytest.param("retrain", ("retrain.same_seed=true", "retrain.subsets=2", "trainer.epochs=1"), 3, id="retrain"),
        # Two splits, the comparison with the checkpoint; three states of the training, two of the sweep and the document that
        # names the valid one; a block, complete scores, outputs of two trainings, notes.
        pytest.param("unroll", UNROLLED, 14, id="unroll"),
    ],
)
def test_killed_anywhere_and_restarted(
    before: dict[str, Path], tmp_path: Path, stage: str, overrides: tuple[str, ...], files: int
) -> None:
    """At every step of every file and at 10 random moments: then the same datasets and fingerprints, and no temporary files."""
    result = fresh_python(tmp_path, str(DRIVER), str(before[stage]), str(tmp_path), stage, FEW_ROWS, *overrides)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["faults"] == []
    assert report["files"] == files
    # The candidates of the two shards; three states of the training, the two of the sweep and their document, written twice.
    removed = 2 if "score.top_k=3" in overrides else 6 if stage == "unroll" else 0
    assert set(report["steps"]) == {*STEPS, *({REMOVED} if removed else ())}
    assert report["steps"].get(REMOVED, 0) == removed
    assert report["steps"]["created"] == files + int(stage == "unroll")
    assert report["states"] > 4 * files, "of each file: an empty, a half and a whole one, with a temporary name or its own"
    assert report["random"] == 10
    assert report["interrupted"] >= 3, "most of the random moments are meant to lie before the end of the run"
