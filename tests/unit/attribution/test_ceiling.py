"""The noise ceiling, against what a perfect predictor really reaches."""

from __future__ import annotations

import numpy as np
import pytest

from trak_cli.attribution.lds.ceiling import noise_ceiling
from trak_cli.attribution.lds.lds import lds_of_predictions

SUBSETS, TARGETS = 300, 60


@pytest.mark.parametrize("models", [2, 5])
@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_it_is_the_lds_of_the_true_expected_outputs(models: int, noise: float) -> None:
    rng = np.random.default_rng(models)
    expected = rng.standard_normal((SUBSETS, TARGETS))
    outputs = expected[:, None] + noise * rng.standard_normal((SUBSETS, models, TARGETS))
    reached = lds_of_predictions(expected.T, outputs.mean(axis=1)).mean
    assert noise_ceiling(outputs) == pytest.approx(reached, abs=0.03)


def test_the_noise_ceiling_is_one_for_agreeing_models_and_zero_for_noise() -> None:
    rng = np.random.default_rng(0)
    one = rng.standard_normal((SUBSETS, 1, TARGETS))
    assert noise_ceiling(np.repeat(one, 3, axis=1)) == pytest.approx(1)
    assert noise_ceiling(rng.standard_normal((SUBSETS, 3, TARGETS))) < 0.2


def test_one_model_per_subset_says_nothing() -> None:
    assert np.isnan(noise_ceiling(np.random.default_rng(0).standard_normal((9, 1, 4))))


def test_targets_without_variation_are_left_out() -> None:
    rng = np.random.default_rng(1)
    outputs = rng.standard_normal((SUBSETS, 1, TARGETS)) + 0.5 * rng.standard_normal((SUBSETS, 3, TARGETS))
    level = np.concatenate([outputs, np.ones((SUBSETS, 3, 7))], axis=2)
    assert noise_ceiling(level) == pytest.approx(noise_ceiling(outputs))
    assert np.isnan(noise_ceiling(np.ones((9, 2, 3))))
