"""The search over the family: which members there are, and sums over subsets without any score."""

import dataclasses

import numpy as np
import pytest

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.lds.lds import subset_predictions
from trak_cli.attribution.linalg.gram import Gram, GramSum
from trak_cli.attribution.linalg.spectrum import decompose, precondition
from trak_cli.attribution.scores import scores
from trak_cli.attribution.search import grid_members, groups, halves, predictions_by_ridge, subset_sums
from trak_cli.errors import ConfigError

GRID = {
    "metric": ["gram", "identity"],
    "weights": ["final", "trajectory"],
    "gram_exponent": [0.0, 1.0],
    "front_exponent": [0.5, 1.0],
    "ridge": ["1x", "3x"],
    "unit_norm": [False, True],
}
MEMBERS = grid_members(EstimatorSpec("it"), GRID)


def test_every_combination_that_makes_sense_is_a_member_once():
    gram, identity = 2 * 2 * 2 * 2 * 2, 2 * 2  # no ridge, weight or trajectory without a Gram
    assert len(set(MEMBERS)) == len(MEMBERS) == gram + identity
    assert {member.name for member in MEMBERS} == {"it"}
    assert EstimatorSpec("it", "gram", 1.0, 0.5, True, "3x", "trajectory") in MEMBERS
    assert EstimatorSpec("it", "identity", 0.0, 0.5, True) in MEMBERS


def test_one_pass_serves_all_ridges_and_fronts():
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


@pytest.mark.parametrize("ridges", [["0.1x"], ["0.1x", "3x", "7"]])
@pytest.mark.parametrize("k", [6, 90])
def test_sums_over_subsets_are_those_of_the_scores(ridges, k):
    generator = np.random.default_rng(0)
    X, T = generator.standard_normal((40, k)).astype(np.float32), generator.standard_normal((5, k)).astype(np.float32)
    q, masks = generator.uniform(0, 1, 40).astype(np.float32), generator.random((9, 40)) < 0.5
    members = [EstimatorSpec("it", gram_exponent=1.0, front_exponent=0.5, ridge=ridge) for ridge in ridges]
    gram = GramSum(k)
    gram.add(X, q)
    spectrum = decompose(gram.result())
    sums = sum(  # rows arrive in pieces
        subset_sums(X[rows], np.sqrt(q[rows].astype(np.float64)), masks[:, rows]) for rows in (slice(0, 13), slice(13, 40))
    )
    found = list(predictions_by_ridge(T.astype(np.float64), sums, spectrum, [spec.ridge_in(spectrum) for spec in members]))
    for spec, (values, lengths) in zip(members, found, strict=True):
        expected = subset_predictions(scores(spec, [X], [q], [T]), masks)
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
        targets = T.astype(np.float64)
        squares = np.einsum("tk,tk->t", targets, precondition(spectrum, spec.ridge_in(spectrum), targets))
        np.testing.assert_allclose(lengths[:, 0], np.sqrt(squares), rtol=1e-9)


def test_a_singular_gram_without_ridge_is_refused():
    spectrum = decompose(Gram(np.diag([0.0, 1.0]), 1))
    with pytest.raises(ConfigError, match="singular"):
        list(predictions_by_ridge(np.ones((1, 2)), np.ones((2, 1)), spectrum, [1.0, 0.0]))


def test_members_differ_in_their_formula_only():
    assert len({dataclasses.replace(member, name="other") for member in MEMBERS}) == len(MEMBERS)
