"""The verdict on derivatives, from predicted and actual changes of f."""

from __future__ import annotations

import numpy as np
import pytest

from trak_cli.unrolling.smoothness import judge


def changes(noise: float, targets: int = 5, trainings: int = 8) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    actual = generator.normal(size=(targets, trainings))
    return actual + noise * generator.normal(size=actual.shape), actual


@pytest.mark.parametrize("trainings", [1, 2, 3, 8])
def test_exact_predictions_are_trusted(trainings: int) -> None:
    found = judge(*changes(0.0, trainings=trainings))
    assert (found.trusted, found.relative_error, found.trainings) == (True, 0.0, trainings)
    assert found.verdict.startswith("f follows its derivative")


@pytest.mark.parametrize("trainings", [1, 3, 8])
def test_noise_is_not_trusted(trainings: int) -> None:
    found = judge(*changes(3.0, trainings=trainings))
    assert not found.trusted
    assert found.verdict.startswith("do not trust these scores")


def test_ranks_decide_where_there_are_enough_trainings() -> None:
    predicted, actual = changes(0.0)
    found = judge(5 * predicted, actual)
    assert (found.trusted, found.rank_correlation) == (True, 1.0)
    assert found.relative_error == pytest.approx(4.0)


def test_few_trainings_are_not_ranked() -> None:
    assert np.isnan(judge(*changes(0.0, trainings=3)).rank_correlation)


def test_targets_that_never_change_are_left_out_of_the_mean() -> None:
    predicted, actual = changes(0.0)
    actual[2] = predicted[2] = 0
    assert judge(predicted, actual).rank_correlation == 1.0


def test_nothing_that_changes_proves_nothing() -> None:
    found = judge(np.ones((2, 5)), np.zeros((2, 5)))
    assert not found.trusted
    assert np.isnan(found.relative_error)


def test_enormous_scores_of_samples_that_no_training_left_out_are_not_trusted() -> None:
    predicted, actual = changes(0.0)
    spread = np.full(len(actual), 1.0)
    assert judge(predicted, actual, spread).trusted
    found = judge(predicted, actual, 20 * spread)
    assert not found.trusted
    assert "a few samples that no training left out" in found.verdict


def test_the_spread_of_single_targets_does_not_decide() -> None:
    predicted, actual = changes(0.0)
    spread = np.ones(len(actual))
    spread[0] = 1e6  # a duplicate of a target, say
    assert judge(predicted, actual, spread).trusted
