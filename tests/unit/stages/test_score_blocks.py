"""Scores in blocks: the same whatever the blocks are, thresholds included."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_store import ROWS, TARGETS, make_store

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.config.load import load
from trak_cli.stages.finalize import finalize
from trak_cli.stages.score import score
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores
from trak_cli.types import Silent

SPECS = [
    EstimatorSpec("trak_soft", soft_threshold=0.5),
    EstimatorSpec("dot", metric="identity", averaging="scores", soft_threshold=0.9),
    EstimatorSpec("early_training", gram_exponent=1.0, weights="early_training", averaging="scores", clip_norm=0.8),
    EstimatorSpec(
        "early_training", gram_exponent=1.0, weights="early_training", normalize_targets=True, clip_norm=1.5, shrinkage=0.1
    ),
    EstimatorSpec("dot", metric="identity", shrinkage=0.3, soft_threshold=0.2),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("block", [5, TARGETS])
def test_results_do_not_depend_on_blocks(tmp_path: Path, spec: EstimatorSpec, block: int):
    store = make_store(tmp_path / "store")
    asked = [f"estimator={spec.name}", f"estimator.averaging={spec.averaging}", f"score.target_block={block}"]
    asked += [
        f"store={store.root}",
        f"estimator.normalize_targets={spec.normalize_targets}",
        f"estimator.clip_norm={spec.clip_norm}",
        f"estimator.shrinkage={spec.shrinkage}",
        f"estimator.soft_threshold={spec.soft_threshold}",
    ]
    finalize(load("finalize", None, None, asked), Silent())
    score(load("score", None, None, asked), Silent())
    found = read_scores(Layout(store.root).scores(spec.name, "test"))
    expected = store.scores(spec)
    assert found.shape == (TARGETS, ROWS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
