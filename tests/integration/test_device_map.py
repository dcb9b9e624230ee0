"""``device_map``: features are those of the model on one device, and stages that need the whole model refuse it."""

from __future__ import annotations

import pytest
from small_project import assert_identical, elsewhere, read_store
from tiny_project import Project

FIXED = ("gradients.microbatch=4", "checkpoints=checkpoints/a.safetensors")


@pytest.mark.parametrize(("engine", "device_map"), [("hooks", "{first: offload, second: cpu}"), ("loop", "auto")])
def test_features_do_not_depend_on_the_placement(project: Project, engine: str, device_map: str) -> None:
    project.done("featurize", f"gradients.engine={engine}", *FIXED)
    placed = elsewhere(project, f"gradients.engine={engine}", *FIXED, f"device_map={device_map}")
    assert_identical(placed, read_store(project.store))


def test_a_placed_store_goes_on_without_placement(project: Project) -> None:
    project.done("featurize", "gradients.engine=hooks", *FIXED, "device_map=auto")
    outcome = project.done("featurize", "gradients.engine=hooks", *FIXED)
    assert "already stored" in outcome.stderr


def test_what_cannot_be_placed_is_refused(project: Project) -> None:
    project.refused(
        2, "featurize", "gradients.engine=vmap", "device_map=auto", says=("gradients.engine", "vmap with device_map")
    )
    project.refused(2, "featurize", "device_map={first: gpu}", says=("device_map.first", "'gpu'", "cpu, cuda:N or offload"))
    project.refused(2, "featurize", "device_map={frist: cpu}", says=("device_map", "did you mean first?"))
    project.refused(2, "refine", "device_map=auto", says=("device_map", "in trak refine"))
