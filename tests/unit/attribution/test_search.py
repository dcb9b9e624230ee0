"""The search over the family: the members of a grid, and sums over subsets without scores."""

import numpy as np
import pytest
from scores_oracle import scores

from trak_cli.attribution.estimator.registry import metric_named
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.validation import spec_problems
from trak_cli.attribution.lds.lds import subset_predictions
from trak_cli.attribution.linalg.gram import Gram, GramSum
from trak_cli.attribution.linalg.spectrum import decompose, precondition
from trak_cli.attribution.search import grid_members, groups, halves, subset_sums
from trak_cli.errors import ConfigError

GRID = {
    "metric": ("gram", "identity"),
    "weights": ("final", "early_training"),
    "gram_exponent": (0.0, 1.0),
    "weight_exponent": (0.5, 1.0),
    "ridge": (1.0, None),
    "unit_norm": (False, True),
}
MEMBERS = grid_members(EstimatorSpec("it", clip_norm=1.5), GRID)


def test_every_valid_combination_is_a_member_once():
    gram, identity = 2 * 2 * 2 * 2 * 2, 2 * 2  # no ridge, weights or clipping without a Gram matrix
    assert len(set(MEMBERS)) == len(MEMBERS) == gram + identity
    assert {member.name for member in MEMBERS} == {"it"}
    assert all(spec_problems(member) == [] for member in MEMBERS)
    unit = EstimatorSpec("it", gram_exponent=1.0, weight_exponent=0.5, unit_norm=True, ridge=1.0, weights="early_training")
    assert unit in MEMBERS
    assert EstimatorSpec("it", ridge=1.0, clip_norm=1.5) in MEMBERS
    assert EstimatorSpec("it", metric="identity", weight_exponent=0.5, unit_norm=True) in MEMBERS


def test_ridges_of_a_grid_have_the_unit_of_the_estimator():
    base = EstimatorSpec("it", ridge=2.0, ridge_unit="mean_norm")
    assert grid_members(base, {"ridge": (3.0, None)}) == [
        EstimatorSpec("it", ridge=3.0, ridge_unit="mean_norm"),
        EstimatorSpec("it"),
    ]


def test_one_pass_serves_all_ridges_and_sample_weights():
    gram, identity = 2 * 2 * 2, 2  # weights × Gram exponents × rows; rows
    found = groups(MEMBERS)
    assert len(found) == gram + identity
    assert sorted(map(len, found)) == [2] * identity + [4] * gram


@pytest.mark.parametrize(("count", "most"), [(9, None), (10, None), (10, 3)])
def test_halves_share_nothing(count, most):
    first, second = halves(count, 0, most)
    assert len(first) == min(count // 2, most or count)
    assert len(second) == count - count // 2
    assert not set(first) & set(second)
    assert (np.diff(first) > 0).all()
    assert (np.diff(second) > 0).all()
    assert set(halves(count, 1)[1]) != set(second)


@pytest.mark.parametrize("ridges", [[0.1], [0.1, 3.0, 7.0]])
@pytest.mark.parametrize("k", [6, 90])
def test_sums_over_subsets_are_those_of_the_scores(ridges, k):
    generator = np.random.default_rng(0)
    X, T = generator.standard_normal((40, k)).astype(np.float32), generator.standard_normal((5, k)).astype(np.float32)
    q, masks = generator.uniform(0, 1, 40).astype(np.float32), generator.random((9, 40)) < 0.5
    members = [
        EstimatorSpec("it", gram_exponent=1.0, weight_exponent=0.5, ridge=ridge, ridge_unit="mean_diagonal") for ridge in ridges
    ]
    gram = GramSum(k)
    gram.add(X, q)
    spectrum = decompose(gram.result())
    sums = sum(  # rows arrive in pieces
        subset_sums(X[rows], np.sqrt(q[rows].astype(np.float64)), masks[:, rows]) for rows in (slice(0, 13), slice(13, 40))
    )
    λ = [spec.ridge_in(spectrum) for spec in members]
    found = list(metric_named("gram").subset_sums(T.astype(np.float64), sums, spectrum, λ))
    for spec, (values, lengths) in zip(members, found, strict=True):
        expected = subset_predictions(scores(spec, [X], [q], [T]), masks)
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
        targets = T.astype(np.float64)
        squares = np.einsum("tk,tk->t", targets, precondition(spectrum, spec.ridge_in(spectrum), targets))
        np.testing.assert_allclose(lengths[:, 0], np.sqrt(squares), rtol=1e-9)


def test_a_singular_gram_without_ridge_is_refused():
    spectrum = decompose(Gram(np.diag([0.0, 1.0]), 1))
    with pytest.raises(ConfigError, match="singular"):
        list(metric_named("gram").subset_sums(np.ones((1, 2)), np.ones((2, 1)), spectrum, [1.0, 0.0]))
