"""What the messages about a YAML file of one's own say to do: lines that work when pasted; and values of one's own."""

from __future__ import annotations

import re

import pytest
from config_project import CONFIG, Project

from trak_cli.errors import Problem


def write(project: Project, defaults: str, extra: str = "", without: str = "") -> None:
    """The project's file with another defaults line and more keys."""
    body = CONFIG.replace("{id}", project.module.removeprefix("plug_")).replace("defaults: [trak, _self_]\n", "")
    lines = [line for line in body.splitlines() if not (without and line.startswith(without))]
    project.write("mine.yaml", "\n".join([defaults, *lines, extra, ""]))


def pasted(problem: Problem) -> str:
    """The defaults line that a remedy gives."""
    found = re.search(r"defaults: \[.*\]", problem.remedy)
    assert found is not None, problem.remedy
    return found[0]


@pytest.mark.parametrize(
    ("defaults", "extra", "without", "chosen"),
    [
        ("defaults: [trak, _self_]", "task: regression", "task:", {"task": "trak_cli.tasks.Regression"}),
        ("defaults: [trak, _self_]", "estimator: dot\nprojection: none", "", {"estimator": "dot", "projection": "none"}),
        ("defaults: [trak, _self_, {override projection: gaussian}]", "gradients: loop", "", {"projection": "gaussian"}),
        ("", "trainer: adamw", "", {"trainer": "trak_cli.plugins.AdamWTrainer"}),
    ],
)
def test_an_option_in_place_of_a_mapping_gives_the_defaults_line(
    project: Project, defaults: str, extra: str, without: str, chosen: dict[str, str]
) -> None:
    write(project, defaults, extra, without)
    problems = project.problems()
    groups = [line.partition(":")[0] for line in extra.splitlines()]
    assert set(groups) <= set(problems)
    write(project, pasted(problems[groups[0]]), "", without)
    config = project.load().config
    texts = {
        "task": config.task["_target_"],
        "estimator": config.estimator.name,
        "projection": config.projection.kind,
        "trainer": config.trainer["_target_"],
    }
    assert {group: texts[group] for group in chosen} == chosen


@pytest.mark.parametrize("entry", ["{task: binary}", "{estimator: dot}", "{gradients: loop}"])
def test_a_selection_without_override_gives_the_line_with_it(project: Project, entry: str) -> None:
    write(project, f"defaults: [trak, _self_, {entry}]")
    [problem] = project.problems().values()
    write(project, pasted(problem))
    project.load()


@pytest.mark.parametrize(
    ("text", "meant"), [("regresion", "regression"), ("clasification", "classification"), ("binry", "binary")]
)
def test_a_misspelt_option_names_the_nearest_one_in_either_place(project: Project, text: str, meant: str) -> None:
    write(project, "defaults: [trak, _self_]", f"task: {text}", "task:")
    assert f"override task: {meant}" in project.problems()["task"].remedy
    write(project, f"defaults: [trak, _self_, {{override task: {text}}}]")
    [problem] = project.problems().values()
    assert f"override task: {meant}" in problem.remedy


@pytest.mark.parametrize(("key", "node"), [("model", "plug.Net"), ("task", "plug.Task"), ("trainer", "plug.Trainer")])
def test_a_class_in_place_of_a_mapping_gives_the_mapping(project: Project, key: str, node: str) -> None:
    write(project, "defaults: [trak, _self_]", f"{key}: {node}", f"{key}:")
    node = node.replace("plug.", f"{project.module}.")
    assert project.problems()[key].remedy == f"write {key}: {{_target_: {node}}}"


def test_a_data_set_in_place_of_a_mapping_gives_the_mapping(project: Project) -> None:
    remedy = project.problems("dataset.targets.test=plug.Data")["dataset.targets.test"].remedy
    assert remedy == f"write test: {{_target_: {project.module}.Data}} in your YAML"


@pytest.mark.parametrize(("defaults", "stage", "key"), [
    ("", "featurize", "task"),
    ("defaults: [_self_]", "featurize", "task"),
    ("", "score", "estimator.name"),
    ("", "train", "trainer"),
])  # fmt: skip
def test_a_missing_defaults_line_is_named_as_such(project: Project, defaults: str, stage: str, key: str) -> None:
    write(project, defaults, without="task:")
    problem = project.problems(stage=stage)[key]
    assert "no defaults line" in problem.found
    write(project, pasted(problem), without="task:")
    project.load(stage=stage)


@pytest.mark.parametrize("group", ["projection", "features", "estimator"])
@pytest.mark.parametrize("value", ["5", "some words", "true"])
def test_any_other_value_in_place_of_a_section_is_one_problem(project: Project, group: str, value: str) -> None:
    write(project, "defaults: [trak, _self_]", f"{group}: {value}")
    assert set(project.problems()) == {group}


def test_values_of_ones_own_can_be_referred_to(project: Project) -> None:
    values = """
vars:
  root: data
  sizes: {train: 7, test: 2}
  folder: ${vars.root}/x
threads: ${vars.sizes.train}
store: ${vars.folder}
"""
    write(project, "defaults: [trak, _self_]", values)
    config = project.load("dataset.targets.test.rows=${vars.sizes.test}").config
    assert (config.threads, config.store, config.dataset.targets["test"]["rows"]) == (7, "data/x", 2)
    assert project.load("vars.root=elsewhere").config.store == "elsewhere/x"


def test_a_value_of_ones_own_that_nothing_refers_to_may_be_broken(project: Project) -> None:
    write(project, "defaults: [trak, _self_]", "vars:\n  a: ${oc.env:TRAK_UNSET}\n  b: ???")
    project.load()
    assert set(project.problems("threads=${vars.a}")) == {"threads"}


@pytest.mark.parametrize("extra", ["root: /data", "seeds: 3\nstore: ${seeds}", "data_root: /d\nthreads: 2", "_base: {a: 1}"])
def test_an_unknown_key_that_may_be_a_value_of_ones_own_leads_to_vars(project: Project, extra: str) -> None:
    write(project, "defaults: [trak, _self_]", extra)
    name = extra.partition(":")[0]
    assert f"${{vars.{name}}}" in project.problems()[name].remedy


def test_a_misspelt_key_does_not(project: Project) -> None:
    write(project, "defaults: [trak, _self_]", "projektion: {dim: 64}")
    assert project.problems()["projektion"].remedy == "did you mean projection?"
