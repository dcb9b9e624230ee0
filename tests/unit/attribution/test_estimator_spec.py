"""Estimator specs: which are refused, which share a Gram matrix, how the formula reads."""

import dataclasses

import pytest

from trak_cli.attribution.estimator.describe import describe_formula, describe_ridge, describe_weights
from trak_cli.attribution.estimator.spec import EstimatorSpec, choices, gram_key, without_unused
from trak_cli.attribution.estimator.validation import spec_problems
from trak_cli.config.estimators import shipped_estimators

MEMBERS = shipped_estimators()


@pytest.mark.parametrize("spec", MEMBERS.values(), ids=MEMBERS)
def test_every_member_can_be_used(spec):
    assert spec_problems(spec) == []


def test_members_are_the_published_formulas():
    assert MEMBERS["trak"] == EstimatorSpec("trak", metric="gram", gram_exponent=0, weight_exponent=1, unit_norm=False)
    assert MEMBERS["dot"] == EstimatorSpec("dot", metric="identity", gram_exponent=0, weight_exponent=1, unit_norm=False)
    assert MEMBERS["cosine"] == EstimatorSpec("cosine", metric="identity", gram_exponent=0, weight_exponent=0, unit_norm=True)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": "../up"}, "estimator.name"),
        ({"name": ""}, "estimator.name"),
        ({"metric": "cosine"}, "estimator.metric"),
        ({"gram_exponent": -0.5}, "estimator.gram_exponent"),
        ({"gram_exponent": float("nan")}, "estimator.gram_exponent"),
        ({"weight_exponent": float("inf")}, "estimator.weight_exponent"),
        ({"ridge": float("inf")}, "estimator.ridge"),
        ({"ridge": 1.0, "ridge_unit": "meters"}, "estimator.ridge_unit"),
        ({"ridge_unit": "absolute"}, "estimator.ridge_unit"),
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
        ({"metric": "identity", "ridge": 3.0}, "estimator.ridge"),
        ({"metric": "identity", "gram_exponent": 1.0}, "estimator.gram_exponent"),
    ],
)
def test_a_bad_field_is_named_by_its_key(change, where):
    problems = spec_problems(dataclasses.replace(EstimatorSpec("it"), **change))
    assert [problem.where for problem in problems] == [where]


def test_all_problems_are_reported_at_once():
    spec = EstimatorSpec("a/b", metric="other", gram_exponent=-1, weight_exponent=-1, ridge=-1, weights="first")
    keys = ("gram_exponent", "metric", "name", "ridge", "weight_exponent", "weights")
    assert sorted(problem.where for problem in spec_problems(spec)) == [f"estimator.{key}" for key in keys]


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        (EstimatorSpec("a"), "unweighted"),
        (EstimatorSpec("a", unit_norm=True), "unit_norm"),
        (EstimatorSpec("a", gram_exponent=1), "gram_exponent-1"),
        (EstimatorSpec("a", gram_exponent=0.5, unit_norm=True), "gram_exponent-0.5-unit_norm"),
        (EstimatorSpec("a", metric="identity", unit_norm=True), "no_gram"),
        (EstimatorSpec("a", weights="early_training", gram_exponent=1), "early_training-gram_exponent-1"),
        (EstimatorSpec("a", clip_norm=1.5), "clip_norm-1.5"),
    ],
)
def test_gram_key(spec, key):
    assert gram_key(spec) == key


def test_specs_share_a_gram_unless_its_values_differ():
    spec = EstimatorSpec("a", gram_exponent=0.1234567)
    same = dataclasses.replace(spec, name="b", weight_exponent=0.5, ridge=3, ridge_unit="mean_diagonal")
    assert gram_key(same) == gram_key(spec)
    assert gram_key(dataclasses.replace(spec, gram_exponent=0.1234568)) != gram_key(spec)


def test_formula_in_one_line():
    assert describe_formula(MEMBERS["trak"]) == (
        "score(i, j) = mean over checkpoints of [xᵢᵀ (Σ x xᵀ + λI)⁻¹ tⱼ] · q̄ᵢ; λ = 1 × mean weighted ‖x‖²"
    )
    assert describe_formula(EstimatorSpec("a", gram_exponent=1, weight_exponent=0.5, ridge=1, ridge_unit="mean_diagonal")) == (
        "score(i, j) = mean over checkpoints of [xᵢᵀ (Σ |q| x xᵀ + λI)⁻¹ tⱼ] · sign(q̄ᵢ) |q̄ᵢ|^0.5; "
        "λ = 1 × mean diagonal of the Gram matrix"
    )
    assert describe_formula(MEMBERS["trak_soft"]).endswith("soft-thresholded: 50% of the scores of each target become 0")
    assert "; x clipped at 1.5 times their median length, q averaged" in describe_formula(MEMBERS["early_training"])
    assert (
        "λ = max(2 × mean weighted ‖x‖², 0.3 × mean ‖x‖²), or less, to explain 45% of the variance of the outputs "
        "(5 × mean weighted ‖x‖² for sums over tokens, max(0.75 × mean weighted ‖x‖², 0.225 × mean ‖x‖²), or less, to explain "
        "30% of the variance of the outputs for three classes or more)"
    ) in describe_formula(MEMBERS["early_training"])
    assert "scores averaged" in describe_formula(EstimatorSpec("a", averaging="scores"))
    assert describe_formula(MEMBERS["cosine"]) == (
        "score(i, j) = mean over checkpoints of [xᵢᵀ tⱼ] · sign(q̄ᵢ); x, t of unit length"
    )


def test_describing_the_weights_and_the_ridge():
    default = MEMBERS["early_training"]
    assert describe_weights(MEMBERS["trak"]) == "q = the out-to-loss gradients of the checkpoints"
    assert "first 15%" in describe_weights(default, 3.0)
    assert "the same weight" in describe_weights(default, 0.0)
    assert "no weights" in describe_weights(default, float("nan"))
    assert describe_ridge(default, "terms") == "λ = 5 × mean weighted ‖x‖² (automatic)"
    assert describe_ridge(EstimatorSpec("a", ridge=0.5, ridge_unit="absolute")) == "λ = 0.5 (as given)"
    assert describe_ridge(MEMBERS["dot"]).startswith("no ridge")


def test_choices_are_the_fields_that_differ_from_their_defaults():
    assert choices(MEMBERS["trak"]) == {}
    assert choices(MEMBERS["cosine"]) == {"metric": "identity", "weight_exponent": 0.0, "unit_norm": True}


def test_fields_without_effect_go_back_to_their_defaults():
    spec = dataclasses.replace(MEMBERS["early_training"], metric="identity", ridge=3.0)
    assert spec_problems(spec)
    assert spec_problems(without_unused(spec)) == []
    assert without_unused(spec) == EstimatorSpec("early_training", metric="identity", normalize_targets=True, shrinkage=0.1)
    assert without_unused(MEMBERS["early_training"]) == MEMBERS["early_training"]
