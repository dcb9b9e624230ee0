"""`trak featurize projection=factored`: the same features however they are computed, and a store that knows what it holds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_project import assert_close, read_store
from tiny_project import Project

FACTORED = ("projection.kind=factored", "projection.factors=[4, 3]", "projection.nonzeros=2")


@pytest.mark.parametrize("engine", ["loop", "vmap", "auto"])
def test_results_do_not_depend_on_engine_or_microbatch(project: Project, engine: str) -> None:
    project.done("featurize", *FACTORED)
    reference = read_store(project.store)
    project.done(
        "featurize", "store=runs/other", *FACTORED, f"gradients.engine={engine}", "gradients.microbatch=5", "threads=2"
    )
    assert_close(read_store(project.folder / "runs" / "other"), reference, relative=1e-5)
    assert all(np.abs(one.features).sum() > 0 for one in reference.values())


def test_the_log_lists_factored_and_other_weights(project: Project) -> None:
    told = project.done("featurize", *FACTORED).stderr
    assert (
        "projection=factored: 2 of 4 parameter tensors from both sides, to at most 4 × 3; first.bias, second.bias"
        " (9 coordinates) by the sparse matrix alone"
    ) in told


def test_the_fingerprint_names_the_factors(project: Project) -> None:
    project.done("featurize", *FACTORED)
    (path, *_) = sorted(project.store.glob("features/*/fingerprint.json"))
    projection = json.loads(path.read_text())["projection"]
    assert {"kind": "factored", "factors": [4, 3], "nonzeros": 2}.items() <= projection.items()
    project.refused(3, "featurize", *FACTORED, "projection.factors=[4, 4]", says=("projection.factors", "[4, 3]", "[4, 4]"))


def test_a_model_without_such_weights_is_refused(project: Project) -> None:
    project.refused(2, "featurize", *FACTORED, "parameters.include=['*.bias']", says=("projection.kind", "projection=sjlt"))
