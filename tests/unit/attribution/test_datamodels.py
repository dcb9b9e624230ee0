"""Baselines from retrained outputs: against their definitions, and that no subset is predicted from itself."""

import numpy as np
import pytest

from trak_cli.attribution.lds.datamodels import BASELINES, RIDGES, cross_fitted, datamodel, empirical_influence
from trak_cli.attribution.lds.lds import lds_of_predictions


def _truth(subsets=40, rows=12, targets=3, noise=0.1, seed=0):
    """Outputs that are sums of weights, and noise."""
    generator = np.random.default_rng(seed)
    masks = np.stack([generator.permutation(rows) < rows // 2 for _ in range(subsets)])
    outputs = masks @ generator.standard_normal((rows, targets)) + 5
    return masks, outputs + noise * outputs.std() * generator.standard_normal(outputs.shape)


def _ridge_by_hand(masks, outputs, others):
    """Every λ by a hat matrix written out; the one with the least GCV, for each target."""
    X, Z = masks - masks.mean(axis=0), others - masks.mean(axis=0)
    unit, centring = np.trace(X @ X.T) / len(X), np.eye(len(X)) - 1 / len(X)
    found = []
    for y in outputs.T:
        best = None
        for ridge in RIDGES * unit:
            weights = np.linalg.solve(X.T @ X + ridge * np.eye(X.shape[1]), X.T @ (y - y.mean()))
            hat = X @ np.linalg.solve(X.T @ X + ridge * np.eye(X.shape[1]), X.T) @ centring + 1 / len(X)
            rest = np.eye(len(X)) - hat
            error = ((rest @ y) ** 2).mean() / (np.trace(rest) / len(X)) ** 2
            if best is None or error < best[0]:
                best = error, Z @ weights
        found.append(best[1])
    return np.array(found)


@pytest.mark.parametrize("rows", [12, 60])
def test_datamodel_is_a_ridge_regression_with_generalised_cross_validation(rows):
    masks, outputs = _truth(rows=rows, noise=0.5)
    found = datamodel(masks[:30], outputs[:30], masks[30:])
    np.testing.assert_allclose(found, _ridge_by_hand(masks[:30], outputs[:30], masks[30:]), rtol=1e-6, atol=1e-8)


def test_datamodel_takes_real_weights():
    weights, outputs = _truth(rows=20, noise=0.3)
    weights = weights * np.random.default_rng(1).uniform(0.5, 2, weights.shape).astype(np.float32)
    found = datamodel(weights[:30], outputs[:30], weights[30:])
    by_hand = _ridge_by_hand(weights[:30].astype(float), outputs[:30], weights[30:].astype(float))
    np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-5)


def test_influence_is_the_mean_with_minus_the_mean_without():
    masks, outputs = _truth()
    masks[:30, 4], masks[:30, 5] = True, False  # no comparison is possible for these
    found = empirical_influence(masks[:30], outputs[:30], masks[30:])
    for s, mask in enumerate(masks[30:]):
        for t in range(outputs.shape[1]):
            total = 0.0
            for i in range(masks.shape[1]):
                has = masks[:30, i]
                if has.any() and not has.all():
                    influence = outputs[:30][has, t].mean() - outputs[:30][~has, t].mean()
                    total += influence * (float(mask[i]) - has.mean())
            assert found[t, s] == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("name", BASELINES)
def test_outputs_that_are_sums_of_weights_are_predicted(name):
    masks, outputs = _truth(subsets=200)
    assert lds_of_predictions(cross_fitted(BASELINES[name], masks, outputs, seed=0), outputs).mean > 0.9


@pytest.mark.parametrize("name", BASELINES)
def test_outputs_without_a_cause_are_not_predicted(name):
    """Fitted to what it is measured against, a regression would predict noise; the mean of the others would, backwards."""
    masks, _ = _truth(subsets=60, rows=80)
    outputs = np.random.default_rng(3).standard_normal((60, 200))
    assert abs(lds_of_predictions(cross_fitted(BASELINES[name], masks, outputs, seed=0), outputs).mean) < 0.1
    assert lds_of_predictions(BASELINES[name](masks, outputs, masks), outputs).mean > 0.5


@pytest.mark.parametrize("name", BASELINES)
def test_a_subset_is_predicted_from_the_others_alone(name):
    masks, outputs = _truth(subsets=20)
    before = cross_fitted(BASELINES[name], masks, outputs, seed=0)
    outputs[7] += 100
    after = cross_fitted(BASELINES[name], masks, outputs, seed=0)
    np.testing.assert_array_equal(after[:, 7], before[:, 7])
    assert not np.allclose(after, before)
