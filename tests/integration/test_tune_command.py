"""`trak tune` as it is typed, and the estimator that it writes in the stages that follow."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from tiny_project import ROWS, TARGETS, Project

from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

SUBSETS = 12
SMALL = [
    "tune.grid.ridge=[0.1, 1]",
    "tune.grid.averaging=[kernels]",
    "tune.grid.shrinkage=[0]",
    "tune.grid.soft_threshold=[0]",
    "tune.grid.gram_exponent=[0, 1]",
    "lds.ground_truth=truth.npz",
]


def test_tune_then_finalize_and_score(project_after: Callable[[str], Project]) -> None:
    project = project_after("score")
    generator = np.random.default_rng(0)
    masks = np.stack([generator.permutation(ROWS) < ROWS // 2 for _ in range(SUBSETS)])
    sums = masks.astype(np.float64) @ read_scores(Layout(project.store).scores("early_training", "test")).T
    np.savez(project.folder / "truth.npz", masks=masks, outputs=sums + generator.normal(0, sums.std(), sums.shape))
    before = project.files()

    told = json.loads(project.done("tune", "--json", *SMALL, "tune.folder=.").stdout)
    assert (
        told["members"] == 2 * 2 * 2 * 3 * 2 + 3 * 2 + 1
    )  # Gram, identity, and the configured one with its own ridge and shrinkage
    assert told["targets"] == [TARGETS // 2, TARGETS // 2]
    after = project.files()
    assert {path: after[path] for path in before} == before

    answer = project.done("tune", *SMALL).stdout
    assert "on the other 6 targets and 6 subsets" in answer
    assert "estimator.name=tuned" in answer
    project.done("finalize", "estimator=tuned")
    project.done("score", "estimator=tuned")
    assert read_scores(Layout(project.store).scores("tuned", "test")).shape == (TARGETS, ROWS)


def test_tune_without_ground_truth_is_refused(featurized: Project) -> None:
    featurized.refused(3, "tune", says=("no retrained models", "trak retrain"))


def test_baselines_stand_beside_the_scores(scored: Project) -> None:
    generator = np.random.default_rng(0)
    masks = np.stack([generator.permutation(ROWS) < ROWS // 2 for _ in range(SUBSETS)])
    np.savez(scored.folder / "truth.npz", masks=masks, outputs=generator.normal(size=(SUBSETS, TARGETS)))
    asked = ["lds.ground_truth=truth.npz", "lds.baselines=[datamodel, empirical_influence]"]
    told = json.loads(scored.done("eval-lds", "--json", *asked).stdout)
    assert [one["name"] for one in told["score_sets"]] == ["early_training", "datamodel", "empirical_influence"]
    assert "each subset is predicted by a fit that leaves it out" in scored.done("eval-lds", *asked).stdout
    scored.refused(2, "eval-lds", "lds.baselines=[datamodels]", says=("lds.baselines", "empirical_influence"))
