"""The documented example of a metric of one's own: docs/examples/extensions/block_diagonal.py."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_project import Everything, read_store
from tiny_project import DIM, ROWS, Project

from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "extensions"

EXTENSION = "extensions=[block_diagonal]"

#: The metric in the paper's formula, without the other choices of the example: they are tested with every estimator.
PLAIN = (EXTENSION, "estimator=trak", "estimator.name=plain", "estimator.metric=block_diagonal")


@pytest.fixture
def extended(featurized: Project) -> Project:
    """The tiny project with the files of the example."""
    shutil.copytree(EXAMPLE, featurized.folder, dirs_exist_ok=True)
    return featurized


def formula(found: Everything, block: int = 8) -> np.ndarray:
    """The scores written out: X blockdiag(G + λI)⁻¹ Tᵀ and q, each averaged over checkpoints."""
    kernels, q = [], []
    for checkpoint in sorted({checkpoint for checkpoint, _ in found}):
        train, target = found[checkpoint, "train"], found[checkpoint, "test"]
        X, T = train.features.astype(np.float64), target.features.astype(np.float64)
        inside = np.arange(DIM)[:, None] // block == np.arange(DIM) // block
        ridge = np.square(X).sum() / ROWS
        B = np.linalg.inv(np.where(inside, X.T @ X, 0) + ridge * np.eye(DIM))
        kernels.append(T @ B @ X.T)
        q.append(train.out_to_loss)
    return np.mean(kernels, axis=0) * np.mean(q, axis=0)


def test_scores_of_a_registered_metric_are_its_formula(extended: Project) -> None:
    for stage in ("finalize", "score"):
        assert "block_diagonal" in extended.done(stage, "-v", *PLAIN).stdout
    expected = formula(read_store(extended.store))
    scores = read_scores(Layout(extended.store).scores("plain", "test"))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_example_runs_as_it_stands(extended: Project) -> None:
    for stage in ("finalize", "score"):
        extended.done(stage, EXTENSION, "estimator=block_diagonal")
        extended.done(stage)
    ours, default = (read_scores(Layout(extended.store).scores(name, "test")) for name in ("block_diagonal", "early_training"))
    assert ours.shape == default.shape
    assert 0.5 < np.corrcoef(ours.ravel(), default.ravel())[0, 1] < 1


def test_tune_searches_a_registered_metric(extended: Project) -> None:
    masks = np.random.default_rng(0).random((12, ROWS)) < 0.5
    outputs = masks.astype(np.float64) @ formula(read_store(extended.store)).T
    np.savez(extended.folder / "truth.npz", masks=masks, outputs=outputs)
    grid = [
        "metric=[gram, block_diagonal]",
        "weights=[final]",
        "weight_exponent=[1]",
        "unit_norm=[false]",
        "averaging=[kernels]",
    ]
    grid += ["gram_exponent=[0]", "ridge=[null]", "shrinkage=[0]", "soft_threshold=[0]"]
    overrides = [f"tune.grid.{values}" for values in grid]
    summary = json.loads(
        extended.done("tune", EXTENSION, "estimator=trak", "lds.ground_truth=truth.npz", *overrides, "--json").stdout
    )
    assert summary["best"][0]["estimator"]["metric"] == "block_diagonal"
    assert summary["best"][0]["searched"] == pytest.approx(1, abs=1e-6)


def test_a_metric_that_no_extension_registers_is_refused(extended: Project) -> None:
    extended.refused(2, "finalize", "estimator.metric=block_diagnal", says=("estimator.metric", "gram", "extensions"))
