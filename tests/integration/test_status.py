"""What ``trak status`` says of Gram matrices and scores."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_project import Project


def told(project: Project, *options: str) -> Any:
    return json.loads(project.done("status", "--json", *options).stdout)


def empty(path: Path) -> None:
    path.write_bytes(b"")


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
@pytest.mark.parametrize(
    ("harm", "options"),
    [(spoil, ("--verify",)), (os.unlink, ()), (os.unlink, ("--verify",)), (empty, ()), (empty, ("--verify",))],
)
def test_damaged_and_missing_score_files(
    scored: Project, name: str, harm: Callable[[Path], None], options: tuple[str, ...]
) -> None:
    (estimator,) = (scored.store / "scores").iterdir()
    harm(estimator / name)
    (scores,) = told(scored, *options)["scores"]
    damaged = [] if harm is os.unlink else [f"scores/{estimator.name}/{name}"]
    assert (scores["complete"], scores["damaged"]) == (False, damaged)
    if damaged:
        assert f"incomplete; damaged: {damaged[0]}" in scored.done("status", *options).stdout


def test_extremes_are_complete_by_themselves(finalized: Project) -> None:
    finalized.done("score", "score.top_k=3")
    assert [scores["complete"] for scores in told(finalized)["scores"]] == [True]
    assert [(scores["complete"], scores["blocks"]) for scores in told(finalized, "--verify")["scores"]] == [(True, 0)]
    path = next((finalized.store / "scores").rglob("test.topk.h5"))
    spoil(path)
    assert [scores["complete"] for scores in told(finalized, "--verify")["scores"]] == [False]
    empty(path)
    assert [scores["complete"] for scores in told(finalized)["scores"]] == [False]


def test_damaged_gram(finalized: Project) -> None:
    assert [gram["damaged"] for gram in told(finalized)["grams"]] == [[]]
    path = next((finalized.store / "finalized").rglob("a-*.h5"))
    for harm, options in ((spoil, ("--verify",)), (empty, ())):
        harm(path)
        (gram,) = told(finalized, *options)["grams"]
        assert gram["damaged"] == [path.relative_to(finalized.store).as_posix()]
        assert f"2 checkpoints; damaged: {gram['damaged'][0]}" in finalized.done("status", *options).stdout


def test_features_by_names_and_sizes_and_by_digests(featurized: Project) -> None:
    """A spoilt byte shows with --verify alone; a shard that is gone, empty or too short for its rows without it."""

    def counts(*options: str) -> dict[str, int | None]:
        found = next(part for part in told(featurized, *options)["features"] if part["split"] == "train")
        return {key: found[key] for key in ("done", "missing", "damaged", "foreign")}

    shards = [featurized.shard("train", index) for index in range(4)]
    whole = counts()["done"]
    assert whole == 4
    spoil(shards[0])
    assert counts() == {"done": whole, "missing": 0, "damaged": 0, "foreign": None}
    assert counts("--verify") == {"done": whole - 1, "missing": 0, "damaged": 1, "foreign": 0}
    shards[1].unlink()
    empty(shards[2])
    shards[3].write_bytes(shards[3].read_bytes()[:700])
    assert counts() == {"done": whole - 3, "missing": 2, "damaged": 1, "foreign": None}
    assert "--verify" in featurized.done("status", "--help").stdout


def test_no_shard_is_opened_without_verify(scored: Project) -> None:
    """What cannot be read can be listed."""
    for path in scored.store.rglob("0*.h5"):
        path.write_bytes(b"x" * path.stat().st_size)
    found = told(scored)
    assert all(part["done"] == part["shards"] for part in found["features"])
    assert [scores["complete"] for scores in found["scores"]] == [True]


def test_scores_are_reported_without_features(scored: Project) -> None:
    (scored.store / "plan.json").unlink()
    out = scored.done("status").stdout
    assert "no features yet" in out
    assert "/test: complete" in out
