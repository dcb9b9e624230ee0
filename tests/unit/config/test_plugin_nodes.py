"""Plugins are found in the folder of the YAML, checked without being built, built with plain values, written canonically."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from config_project import Project

from trak_cli.config.load import load
from trak_cli.config.validate.plugins import instantiate, target_of
from trak_cli.errors import ConfigError, InputError


def test_a_plugin_beside_the_yaml_is_built(project: Project) -> None:
    config = project.load("model.depth=5").config
    model = instantiate(config.model, "model")
    assert (type(model).__module__, model.width, model.depth) == (project.module, 4, 5)


def test_arguments_are_plain_and_nested_plugins_are_built_first(project: Project) -> None:
    config = project.load(
        "+dataset.train.transform={steps: [{_target_: plug.Data, rows: 2}], names: [a, b], inner: {x: 1}}"
    ).config
    transform = instantiate(config.dataset.train, "dataset.train").transform
    assert transform["steps"][0].rows == 2
    assert type(transform["names"]) is list
    assert type(transform["inner"]) is dict


def test_a_partial_plugin_is_a_function(project: Project) -> None:
    config = project.load("dataset.collate={_target_: plug.pad, _partial_: true, value: 7}").config
    collate = instantiate(config.dataset.collate, "dataset.collate")
    assert isinstance(collate, functools.partial)
    assert collate([1]) == ([1], 7)


@pytest.mark.parametrize(
    ("node", "padded"),
    [
        ("{_target_: plug.pad}", ([1], 0)),
        ("{_target_: plug.pad, value: 7}", ([1], 7)),
        ("{_target_: plug.Padding, value: 3}", ([1], 3)),
        ("{_target_: plug.padding, value: 5}", ([1], 5)),
    ],
)
def test_collate_is_a_function_an_object_that_is_called_or_what_a_function_makes(
    project: Project, node: str, padded: tuple[list[int], int]
) -> None:
    config = project.load(f"dataset.collate={node}").config
    assert instantiate(config.dataset.collate, "dataset.collate")([1]) == padded


def test_extra_arguments_of_the_program_win(project: Project) -> None:
    assert instantiate(project.load().config.model, "model", width=11).width == 11


def test_an_exception_in_a_constructor_is_a_user_error_with_its_cause(project: Project) -> None:
    config = project.load("dataset.train.rows=-1").config
    with pytest.raises(InputError, match="ValueError: rows must not be negative") as caught:
        instantiate(config.dataset.train, "dataset.train")
    assert caught.value.problems[0].where == "dataset.train"
    assert isinstance(caught.value.__cause__, ValueError)
    nested = {"_target_": f"{project.module}.Data", "transform": [config.dataset.train]}
    with pytest.raises(InputError) as caught:
        instantiate(nested, "dataset.train")
    assert caught.value.problems[0].where == "dataset.train.transform[0]"


@pytest.mark.parametrize("node", [None, "plug.Net", {"width": 3}, {"_target_": 3}])
def test_an_object_that_is_not_a_plugin_cannot_be_built(node: object) -> None:
    with pytest.raises(ConfigError, match="model"):
        instantiate(node, "model")


@pytest.mark.parametrize(
    ("target", "found", "remedy"),
    [
        ("nowhere.Net", "there is no module 'nowhere'", "--config-dir"),
        ("torch.nowhere.Net", "has no 'nowhere'", "did you mean torch.where?"),
        ("plug.Nett", "has no 'Nett'", "did you mean"),
        ("plug.Net.nope", "has no 'nope'", "check the spelling"),
        ("plug.NUMBER", "which is of type int", "a class or a function"),
        ("Net", "'Net'", "give the module"),
        ("plug..Net", "Net'", "give the module"),
        ("hungry.Net", "importing hungry raised ModuleNotFoundError: No module named 'not_installed'", "python -c"),
        ("slipped.Net", "importing slipped raised SyntaxError", "python -c"),
        ("failing.Net", "importing failing raised RuntimeError: no luck", "python -c"),
        ("leaving.Net", "importing leaving raised SystemExit: 3", "python -c"),
    ],
)
def test_a_target_that_cannot_be_used_is_named_with_the_reason(project: Project, target: str, found: str, remedy: str) -> None:
    project.write("hungry.py", "import not_installed\n")
    project.write("slipped.py", "x = 1\ndef f(:\n")
    project.write("failing.py", "\nraise RuntimeError('no luck')\n")
    project.write("leaving.py", "raise SystemExit(3)\n")
    problems = project.problems(f"task._target_={target}")
    assert set(problems) == {"task._target_"}
    assert found in problems["task._target_"].found
    assert remedy in problems["task._target_"].remedy


def test_the_failing_module_is_named(project: Project) -> None:
    project.write("stumbles.py", "\n\nraise RuntimeError('no luck')\n")
    found = project.problems("task._target_=stumbles.Net")["task._target_"].found
    assert f"({project.folder / 'stumbles.py'}, line 3)" in found


def test_arguments_are_checked_against_the_signature(project: Project) -> None:
    problems = project.problems(
        "model={_target_: plug.Net, dept: 3}",
        "~model.width",
        "+dataset.train.transform=[{_target_: plug.Net, width: 1, wide: 2}]",
        "dataset.collate={_target_: plug.pad, _partial_: yes}",
        "task._args_=[1]",
    )
    assert set(problems) == {
        "model.dept",
        "model.width",
        "dataset.train.transform[0].wide",
        "dataset.collate._partial_",
        "task._args_",
    }
    assert problems["model.dept"].expected == "one of: width, depth"
    assert problems["model.dept"].remedy == "did you mean model.depth?"
    assert problems["model.width"].found == "nothing"


def test_a_node_that_is_not_a_plugin(project: Project) -> None:
    assert set(project.problems("model=null", "+model.width=3")) == {"model"}
    assert set(project.problems("dataset.targets.test=null")) == {"dataset.targets.test"}
    assert set(project.problems("dataset.train=5")) == {"dataset.train"}


def test_callables_without_a_signature_are_accepted(project: Project) -> None:
    assert project.load("task={_target_: builtins.dict, a: 1}").config.task["a"] == 1


def test_each_folder_has_its_own_module_of_a_name(tmp_path: Path) -> None:
    for folder, width in (("one", 1), ("two", 2), ("one", 1)):
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        (path / "same_name.py").write_text(f"class Net:\n    width = {width}\n")
        config = load("config", None, path, ["model={_target_: same_name.Net}", "name=x"]).config
        assert instantiate(config.model, "model").width == width
        assert sys.path[0] == str(path.resolve())
    assert str((tmp_path / "two").resolve()) not in sys.path


def test_a_file_called_like_a_loaded_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fractions.py").write_text("class Net: pass\n")
    sys.modules.setdefault("fractions", __import__("fractions"))
    with pytest.raises(ConfigError, match=r"rename fractions\.py"):
        load("train", None, tmp_path, ["model={_target_: fractions.Net}", "name=x"])


def test_the_canonical_form_is_sorted_json() -> None:
    node = {"width": 3, "_target_": "plug.Net", "_partial_": False, "inner": {"b": (1, 2), "a": Path("x")}}
    assert target_of(node) == {"_target_": "plug.Net", "inner": {"a": "x", "b": [1, 2]}, "width": 3}
    assert list(target_of(node)) == ["_target_", "inner", "width"]
    assert target_of({**node, "_partial_": True}) != target_of(node)
    assert target_of(None) == {}
    assert target_of(dict(reversed(node.items()))) == target_of(node)
    assert SimpleNamespace(**target_of(node)).width == 3


def test_numbers_that_json_lacks_are_text_in_canonical_form():
    assert target_of({"_target_": "plug.Net", "limit": float("inf"), "fill": float("nan")}) == {
        "_target_": "plug.Net",
        "fill": "nan",
        "limit": "inf",
    }
