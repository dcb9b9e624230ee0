"""Specs: what is refused, which Gram is shared, how a formula reads."""

import dataclasses

import pytest

from trak_cli.attribution.estimator.spec import MEMBERS, EstimatorSpec, describe_formula, gram_key, spec_problems


@pytest.mark.parametrize("spec", MEMBERS.values(), ids=MEMBERS)
def test_every_member_can_be_used(spec):
    assert spec_problems(spec) == []


def test_members_are_the_published_formulas():
    assert MEMBERS["trak"] == EstimatorSpec("trak", "gram", gram_exponent=0, front_exponent=1, unit_norm=False)
    assert MEMBERS["dot"] == EstimatorSpec("dot", "identity", gram_exponent=0, front_exponent=1, unit_norm=False)
    assert MEMBERS["cosine"] == EstimatorSpec("cosine", "identity", gram_exponent=0, front_exponent=0, unit_norm=True)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": "../up"}, "estimator.name"),
        ({"name": ""}, "estimator.name"),
        ({"metric": "cosine"}, "estimator.metric"),
        ({"gram_exponent": -0.5}, "estimator.gram_exponent"),
        ({"gram_exponent": float("nan")}, "estimator.gram_exponent"),
        ({"front_exponent": float("inf")}, "estimator.front_exponent"),
        ({"ridge": "3 x"}, "estimator.ridge"),
        ({"averaging": "checkpoints"}, "estimator.averaging"),
        ({"soft_threshold": 1.0}, "estimator.soft_threshold"),
        ({"soft_threshold": -0.1}, "estimator.soft_threshold"),
        ({"soft_threshold": float("nan")}, "estimator.soft_threshold"),
        ({"shrinkage": -0.1}, "estimator.shrinkage"),
        ({"shrinkage": float("nan")}, "estimator.shrinkage"),
        ({"clip_norm": -1.0}, "estimator.clip_norm"),
        ({"clip_norm": float("inf")}, "estimator.clip_norm"),
        ({"clip_norm": 1.5, "unit_norm": True}, "estimator.clip_norm"),
        ({"clip_norm": 1.5, "metric": "identity"}, "estimator.clip_norm"),
        ({"metric": "identity", "ridge": "3x"}, "estimator.ridge"),
        ({"metric": "identity", "gram_exponent": 1.0}, "estimator.gram_exponent"),
    ],
)
def test_a_bad_field_is_named_by_its_key(change, where):
    problems = spec_problems(dataclasses.replace(EstimatorSpec("it"), **change))
    assert [problem.where for problem in problems] == [where]


def test_all_problems_are_reported_at_once():
    spec = EstimatorSpec("a/b", "other", gram_exponent=-1, front_exponent=-1, ridge="-1", weights="first")
    keys = ("front_exponent", "gram_exponent", "metric", "name", "ridge", "weights")
    assert sorted(problem.where for problem in spec_problems(spec)) == [f"estimator.{key}" for key in keys]


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        (EstimatorSpec("a"), "plain"),
        (EstimatorSpec("a", unit_norm=True), "unit"),
        (EstimatorSpec("a", gram_exponent=1), "q1"),
        (EstimatorSpec("a", gram_exponent=0.5, unit_norm=True), "q0.5-unit"),
        (EstimatorSpec("a", metric="identity", unit_norm=True), "identity"),
        (EstimatorSpec("a", weights="trajectory", gram_exponent=1), "trajectory-q1"),
        (EstimatorSpec("a", clip_norm=1.5), "clip1.5"),
    ],
)
def test_gram_key(spec, key):
    assert gram_key(spec) == key


def test_specs_share_a_gram_unless_its_values_differ():
    spec = EstimatorSpec("a", gram_exponent=0.1234567)
    same = dataclasses.replace(spec, name="b", front_exponent=0.5, ridge="3x")
    assert gram_key(same) == gram_key(spec)
    assert gram_key(dataclasses.replace(spec, gram_exponent=0.1234568)) != gram_key(spec)


def test_formula_in_one_line():
    assert describe_formula(MEMBERS["trak"]) == ("score(i, j) = mean over checkpoints of [xᵢᵀ (Σ x xᵀ + λI)⁻¹ tⱼ] · q̄ᵢ; λ = 1w")
    assert describe_formula(EstimatorSpec("a", gram_exponent=1, front_exponent=0.5, ridge="1x")) == (
        "score(i, j) = mean over checkpoints of [xᵢᵀ (Σ |q| x xᵀ + λI)⁻¹ tⱼ] · sign(q̄ᵢ) |q̄ᵢ|^0.5; λ = 1x"
    )
    assert describe_formula(MEMBERS["trak_soft"]).endswith("soft-thresholded: 50% of the scores of each target become 0")
    assert "; x clipped at 1.5 times their median length, q averaged" in describe_formula(MEMBERS["trajectory"])
    assert "λ = 2w|0.3n (5w for sums over tokens), times |c| / (|c| + 0.1/√M), c the" in describe_formula(MEMBERS["trajectory"])
    assert "scores averaged" in describe_formula(EstimatorSpec("a", averaging="scores"))
    assert describe_formula(MEMBERS["cosine"]) == (
        "score(i, j) = mean over checkpoints of [xᵢᵀ tⱼ] · sign(q̄ᵢ); x, t of unit length"
    )
