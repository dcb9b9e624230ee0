"""`trak featurize gradients.autocast=bfloat16`: other values, of float32 features, in a store that says so."""

from __future__ import annotations

import json

from small_project import read_store, relative_error
from tiny_project import Project

AUTOCAST = "gradients.autocast=bfloat16"


def test_features_are_those_of_float32_up_to_rounding(featurized: Project) -> None:
    featurized.done("featurize", "store=runs/narrow", AUTOCAST)
    featurized.done("featurize", "store=runs/looped", AUTOCAST, "gradients.engine=loop")
    exact = read_store(featurized.store)
    for name in ("narrow", "looped"):
        found = read_store(featurized.folder / "runs" / name)
        for key, one in exact.items():
            assert 1e-4 < relative_error(found[key].features, one.features) < 0.05
            assert relative_error(found[key].outputs, one.outputs) < 0.02


def test_a_store_of_other_precision_is_refused(project: Project) -> None:
    project.done("featurize", AUTOCAST)
    (path, *_) = sorted(project.store.glob("features/*/fingerprint.json"))
    assert json.loads(path.read_text())["autocast"] == "bfloat16"
    project.refused(3, "featurize", says=("autocast", "bfloat16"))


def test_problems_are_reported_before_any_work(project: Project) -> None:
    both = ("gradients.autocast=int8", "projection.dim=0")
    project.refused(2, "featurize", *both, says=("gradients.autocast", "bfloat16", "projection.dim"))
    project.refused(2, "featurize", AUTOCAST, "gradients.engine=vmap", says=("gradients.autocast", "gradients=hooks"))
