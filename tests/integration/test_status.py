"""What ``trak status`` says of Gram matrices and scores."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_project import Project


def told(project: Project) -> Any:
    return json.loads(project.done("status", "--json").stdout)


def spoil(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def test_scores_of_one_worker_of_two_are_incomplete(finalized: Project) -> None:
    finalized.done("score", "worker.index=0", "worker.count=2")
    (scores,) = told(finalized)["scores"]
    assert (scores["complete"], scores["blocks"], scores["damaged"]) == (False, 4, [])
    assert "/test: incomplete" in finalized.done("status").stdout
    finalized.done("score", "worker.index=1", "worker.count=2")
    (scores,) = told(finalized)["scores"]
    assert (scores["complete"], scores["blocks"]) == (True, 8)
    assert "/test: complete" in finalized.done("status").stdout


@pytest.mark.parametrize("name", ["test.h5", "test/0001/000/00002.h5"])
@pytest.mark.parametrize("harm", [spoil, os.unlink])
def test_damaged_and_missing_score_files(scored: Project, name: str, harm: Callable[[Path], None]) -> None:
    (estimator,) = (scored.store / "scores").iterdir()
    harm(estimator / name)
    (scores,) = told(scored)["scores"]
    damaged = [f"scores/{estimator.name}/{name}"] if harm is spoil else []
    assert (scores["complete"], scores["damaged"]) == (False, damaged)
    if damaged:
        assert f"incomplete; damaged: {damaged[0]}" in scored.done("status").stdout


def test_extremes_are_complete_by_themselves(finalized: Project) -> None:
    finalized.done("score", "score.top_k=3")
    assert [scores["complete"] for scores in told(finalized)["scores"]] == [True]
    spoil(next((finalized.store / "scores").rglob("test.topk.h5")))
    assert [scores["complete"] for scores in told(finalized)["scores"]] == [False]


def test_damaged_gram(finalized: Project) -> None:
    assert [gram["damaged"] for gram in told(finalized)["grams"]] == [[]]
    path = next((finalized.store / "finalized").rglob("a-*.h5"))
    spoil(path)
    (gram,) = told(finalized)["grams"]
    assert gram["damaged"] == [path.relative_to(finalized.store).as_posix()]
    assert f"2 checkpoint(s); damaged: {gram['damaged'][0]}" in finalized.done("status").stdout


def test_scores_are_told_of_without_features(scored: Project) -> None:
    (scored.store / "plan.json").unlink()
    out = scored.done("status").stdout
    assert "no features yet" in out
    assert "/test: complete" in out
