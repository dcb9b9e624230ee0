"""The fingerprint of scores."""

from __future__ import annotations

from dataclasses import Field, fields, replace
from typing import Any

import pytest

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.config.estimators import shipped_estimators
from trak_cli.stages.index.fingerprints import scores_fingerprint
from trak_cli.types import Json

SAMPLES: Json = {"kind": "features", "dim": 64}
TERMS: Json = {**SAMPLES, "terms": {"dim": 64}}


def stored_estimator(spec: EstimatorSpec, features: Json) -> Json:
    stored: Json = scores_fingerprint(spec, [features], rows=3, split="test", targets=2, top_k=None)["estimator"]
    return stored


def stored_ridge(spec: EstimatorSpec, features: Json) -> tuple[object, ...]:
    return tuple(stored_estimator(spec, features)[key] for key in ("ridge", "ridge_unit", "ridge_floor"))


@pytest.mark.parametrize(
    ("name", "features", "ridge"),
    [
        ("early_training", SAMPLES, (2.0, "mean_weighted_norm", 0.3)),
        ("early_training", TERMS, (5.0, "mean_weighted_norm", 0.0)),
        ("trak", SAMPLES, (1.0, "mean_weighted_norm", 0.0)),
        ("trak", TERMS, (1.0, "mean_weighted_norm", 0.0)),
    ],
)
def test_an_automatic_ridge_is_stored_with_its_resolved_value(name: str, features: Json, ridge: tuple[object, ...]) -> None:
    """Scores of a version with another automatic ridge then differ."""
    assert stored_ridge(shipped_estimators()[name], features) == ridge


def test_a_given_ridge_is_stored_unchanged() -> None:
    spec = replace(shipped_estimators()["early_training"], ridge=0.5, ridge_unit="absolute")
    assert stored_ridge(spec, TERMS) == (0.5, "absolute", 0.0)


def test_an_estimator_without_gram_matrix_has_no_ridge() -> None:
    assert "ridge" not in stored_estimator(shipped_estimators()["cosine"], SAMPLES)


@pytest.mark.parametrize("item", [item for item in fields(EstimatorSpec) if item.name != "name"], ids=lambda item: item.name)
def test_every_field_of_an_estimator_identifies_its_scores(item: Field[Any]) -> None:
    other = {"metric": "identity", "weights": "early_training", "averaging": "scores", "ridge_unit": "absolute", "ridge": 7.0}
    value = other.get(item.name, True if item.default is False else 0.5)
    spec = EstimatorSpec("it", ridge=3.0)
    assert stored_estimator(replace(spec, **{item.name: value}), SAMPLES) != stored_estimator(spec, SAMPLES)


def test_the_name_of_an_estimator_does_not_identify_its_scores() -> None:
    assert stored_estimator(EstimatorSpec("one"), SAMPLES) == stored_estimator(EstimatorSpec("other"), SAMPLES)
