"""``trak ask``: new targets against a finished store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_project import stamps
from tiny_project import ROWS, TARGETS, Project

from trak_cli.config.load import Loaded, load
from trak_cli.results.ask import open_new, score_new
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores
from trak_cli.types import Float32, Silent


def loaded(project: Project, *overrides: str) -> Loaded:
    with project.monkeypatch.context() as context:
        context.chdir(project.folder)
        return load("ask", None, Path("."), overrides)


def samples_of_the_split(project: Project) -> list[object]:
    with project.monkeypatch.context() as context:
        context.chdir(project.folder)
        context.syspath_prepend(str(project.folder))
        from tiny_plugin import Data

        return [Data(TARGETS, seed=2)[row] for row in range(TARGETS)]


def asked(project: Project, *overrides: str) -> Float32:
    """Every score of the samples of the target split, asked about as new targets."""
    with project.monkeypatch.context() as context:
        context.chdir(project.folder)
        new = open_new(loaded(project, *overrides), Silent(), samples_of_the_split(project))
        return np.concatenate([scores for _, scores in new.blocks()], axis=1)


@pytest.mark.parametrize("estimator", ["early_training", "trak", "trak_soft", "cosine", "dot", "balanced"])
def test_scores_of_new_targets_equal_those_of_a_split_with_the_same_samples(finalized: Project, estimator: str) -> None:
    chosen = [f"estimator={estimator}", "estimator.averaging=kernels"]
    finalized.done("finalize", *chosen)
    finalized.done("score", *chosen)
    before = stamps(finalized.store)
    scores = asked(finalized, *chosen)
    expected = read_scores(Layout(finalized.store).scores(estimator, "test"))
    assert scores.shape == (TARGETS, ROWS)
    np.testing.assert_allclose(scores, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())
    assert stamps(finalized.store) == before


CHOICES = [["estimator.averaging=scores"], ["estimator.checkpoint_counts=[1]"], ["score.target_block=5"]]


@pytest.mark.parametrize("choices", CHOICES)
def test_scores_of_new_targets_follow_the_choices_of_the_estimator(finalized: Project, choices: list[str]) -> None:
    finalized.done("finalize", *choices)
    finalized.done("score", *choices)
    (name,) = (path.name for path in (finalized.store / "scores").iterdir())
    expected = read_scores(Layout(finalized.store).scores(name, "test"))
    np.testing.assert_allclose(asked(finalized, *choices), expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float16", "int8", "bfloat16"])
def test_features_of_new_targets_are_rounded_like_stored_ones(project: Project, dtype: str) -> None:
    chosen = [f"features.dtype={dtype}"]
    for stage in ("featurize", "finalize", "score"):
        project.done(stage, *chosen)
    expected = read_scores(Layout(project.store).scores("early_training", "test"))
    np.testing.assert_allclose(asked(project, *chosen), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_only_the_highest_and_lowest_are_kept(scored: Project) -> None:
    with scored.monkeypatch.context() as context:
        context.chdir(scored.folder)
        found = score_new(loaded(scored), Silent(), samples_of_the_split(scored), 4)
    expected = read_scores(Layout(scored.store).scores("early_training", "test"))
    order = np.argsort(-expected, axis=1)
    assert found.extremes.top.indices.tolist() == order[:, :4].tolist()
    assert found.extremes.bottom.indices.tolist() == order[:, :-5:-1].tolist()
    assert found.outputs.shape == (TARGETS,)
    assert found.rows == ROWS
