"""What scores are identified by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trak_cli.attribution.estimator.spec import MEMBERS, EstimatorSpec
from trak_cli.stages.index.fingerprints import scores_fingerprint
from trak_cli.types import Json

SAMPLES: Json = {"kind": "features", "dim": 64}
TERMS: Json = {**SAMPLES, "terms": {"dim": 64}}


def filed_ridge(spec: EstimatorSpec, features: Json) -> object:
    return scores_fingerprint(spec, [features], rows=3, split="test", targets=2, top_k=None)["estimator"]["ridge"]


@pytest.mark.parametrize(
    ("name", "features", "ridge"),
    [
        ("trajectory", SAMPLES, "2w|0.3n"),
        ("trajectory", TERMS, "5w"),
        ("trak", SAMPLES, "1w"),
        ("trak", TERMS, "1w"),
        ("cosine", SAMPLES, "auto"),
    ],
)
def test_a_default_ridge_is_filed_as_what_it_stands_for(name: str, features: Json, ridge: str) -> None:
    """So that scores by another version's default are not taken for this one's; without a Gram matrix there is none."""
    assert filed_ridge(MEMBERS[name], features) == ridge


def test_a_ridge_is_filed_as_it_was_written() -> None:
    assert filed_ridge(replace(MEMBERS["trajectory"], ridge="0.5"), TERMS) == "0.5"
