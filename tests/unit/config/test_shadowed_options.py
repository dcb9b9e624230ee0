"""A selection on the command line is done or refused, never taken back by the user's own file in silence."""

from __future__ import annotations

import pytest
from config_project import Project

OWN = "gradients: {engine: hooks}\n"


def append(project: Project, text: str) -> None:
    path = project.folder / "mine.yaml"
    path.write_text(path.read_text() + text)


def test_a_file_that_undoes_a_selection_is_named(project: Project) -> None:
    append(project, OWN)
    problem = project.problems("gradients=loop")["gradients"]
    assert "gradients.engine=hooks" in problem.found
    assert "mine.yaml" in problem.found
    assert "gradients.engine=loop" in problem.remedy


@pytest.mark.parametrize(
    "overrides", [("gradients=hooks",), ("gradients=loop", "gradients.engine=loop"), ("gradients.engine=vmap",)]
)
def test_a_result_as_requested_is_not_a_problem(project: Project, overrides: tuple[str, ...]) -> None:
    append(project, OWN)
    assert project.load(*overrides).config.gradients.engine == overrides[-1].rpartition("=")[2]


def test_keys_that_the_selection_does_not_set_stay_those_of_the_file(project: Project) -> None:
    append(project, "estimator: {ridge: 3}\n")
    estimator = project.load("estimator=trak", stage="finalize").config.estimator
    assert (estimator.name, estimator.ridge) == ("trak", 3.0)


def test_an_option_means_the_default_of_every_key_that_other_options_set(project: Project) -> None:
    append(project, "estimator: {metric: identity, ridge: 3}\n")
    problem = project.problems("estimator=trak", stage="finalize")["estimator"]
    assert "estimator.metric=identity" in problem.found
    assert "estimator.metric=gram" in problem.remedy
