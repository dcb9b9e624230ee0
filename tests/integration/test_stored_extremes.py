"""What is said where only the extremes of the scores are stored (``score.top_k``)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_project import ROWS, TARGETS, Project

CONFIG, STORE = 2, 3


@pytest.fixture
def extremes(finalized: Project) -> Project:
    finalized.done("score", "score.top_k=3")
    return finalized


def test_dense_scores_are_asked_for_where_extremes_are(extremes: Project) -> None:
    generator = np.random.default_rng(0)
    np.savez(
        extremes.folder / "truth.npz", masks=generator.random((5, ROWS)) < 0.5, outputs=generator.normal(size=(5, TARGETS))
    )
    truth = "lds.ground_truth=truth.npz"
    extremes.refused(STORE, "eval-lds", truth, says=("test.topk.h5 (score.top_k)", "dense scores", "score.top_k=null"))
    extremes.done("score", "score.top_k=null", "score.overwrite=true")
    extremes.done("eval-lds", truth)


def test_more_extremes_than_are_kept(extremes: Project) -> None:
    extremes.done("top", "-k", "3")
    extremes.refused(CONFIG, "top", "-k", "4", says=("at most 3", "give -k 3", "score.top_k"))
    extremes.done("score", "score.top_k=4", "score.overwrite=true")
    extremes.done("top", "-k", "4")


def test_all_rows_are_enough_extremes(finalized: Project) -> None:
    finalized.done("score", "score.top_k=100")
    (target,) = json.loads(finalized.done("top", "-k", "80", "--json").stdout)["targets"]
    assert len(target["helpful"]) + len(target["harmful"]) == ROWS
