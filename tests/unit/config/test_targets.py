"""Target splits: their names are free, and they take the preprocessing of the training set unless they give their own."""

from __future__ import annotations

from typing import Any

import pytest
from config_project import Project


def splits(project: Project, text: str, *overrides: str) -> dict[str, Any]:
    """The training set and the target splits of a configuration, resolved."""
    project.write("mine.yaml", text)
    dataset = project.load(*overrides, stage="config").config.dataset
    return {"train": dataset.train, **dataset.targets}


def option(name: str, dataset: str) -> str:
    return f"defaults: [trak, _self_, {{override dataset: {name}}}]\nname: mine\ndataset:\n{dataset}"


TEXTS = """
  train: {path: a.jsonl, tokenizer: words.json, max_length: 64, classes: ["no", "yes"], text: body}
  targets: {test: {path: b.jsonl}}
"""


def test_a_text_split_has_the_tokenizer_length_columns_and_classes_of_the_training_set(project: Project) -> None:
    found = splits(project, option("text_classification", TEXTS))
    assert found["test"] == {**found["train"], "path": "b.jsonl"}


@pytest.mark.parametrize(
    "given",
    [{"max_length": 128}, {"max_length": None}, {"tokenizer": "others.json"}, {"text": "question", "classes": ["a", "b"]}],
)
def test_what_a_split_gives_itself_counts(project: Project, given: dict[str, Any]) -> None:
    text = option("text_classification", TEXTS.replace("path: b.jsonl", f"path: b.jsonl, {str(given)[1:-1]}"))
    found = splits(project, text.replace("None", "null"))
    assert found["test"] == {**found["train"], "path": "b.jsonl", **given}


def test_a_value_on_the_command_line_reaches_every_split(project: Project) -> None:
    found = splits(
        project, option("text_classification", TEXTS), "dataset.train.max_length=12", "dataset.targets.more.path=c.jsonl"
    )
    assert [found[name]["max_length"] for name in ("test", "more")] == [12, 12]


@pytest.mark.parametrize("size", [32, 224])
def test_an_image_split_has_the_size_and_normalisation_of_the_training_set(project: Project, size: int) -> None:
    images = f"  train: {{path: a, size: {size}, resize: 300, mean: [0.5], std: [0.5]}}\n  targets: {{test: {{path: b}}}}"
    found = splits(project, option("image_folder", images))
    assert found["test"] == {**found["train"], "path": "b"}


def test_a_split_of_another_size_does_not_take_the_resize_that_belongs_to_the_old_one(project: Project) -> None:
    found = splits(
        project, option("image_folder", "  train: {path: a, size: 32, resize: 36}\n  targets: {test: {path: b, size: 64}}")
    )
    assert "resize" not in found["test"]


@pytest.mark.parametrize("name", ["val", "dev_2", "questions"])
def test_a_split_of_any_name_needs_no_class_of_its_own(project: Project, name: str) -> None:
    found = splits(
        project, option("table", f"  train: {{path: a.csv, inputs: [x], label: y}}\n  targets: {{{name}: {{path: b.csv}}}}")
    )
    assert found == {"train": found["train"], name: {**found["train"], "path": "b.csv"}}


def test_the_split_of_an_option_is_left_out_only_if_another_one_is_there_and_nobody_names_its_samples(project: Project) -> None:
    table = "  train: {path: a.csv, inputs: [x]}\n  targets: {val: {path: b.csv}}"
    assert list(splits(project, option("table", table))) == ["train", "val"]
    assert set(splits(project, option("table", table), "dataset.targets.test.path=c.csv")) == {"train", "val", "test"}
    assert set(splits(project, option("digits", "  targets: {val: {split: test}}"))) == {"train", "val", "test"}
    project.write("mine.yaml", option("table", "  train: {path: a.csv, inputs: [x]}"))
    assert project.problems()["dataset.targets.test.path"].found == "no value (???)"


def test_which_samples_a_split_holds_is_never_taken_from_the_training_set(project: Project) -> None:
    cifar = "  train: {path: a, first: 0, last: 99, only: [3, 5]}\n  targets: {val: {path: a, split: test}}"
    found = splits(project, option("cifar10", cifar))["val"]
    assert found == {"_target_": "trak_cli.plugins.Cifar", "path": "a", "split": "test", "only": [3, 5]}


def test_columns_of_the_training_set_replace_those_of_the_option_but_not_those_of_the_split(project: Project) -> None:
    train = "  train: {path: a.jsonl, text: null, prompt: question, completion: answer}\n"
    found = splits(project, option("causal_lm", train + "  targets: {test: {path: b.jsonl}}"))
    assert (found["test"]["prompt"], found["test"]["completion"]) == ("question", "answer")
    found = splits(
        project, option("causal_lm", train + "  targets: {test: {path: b.jsonl, prompt: null, completion: null, text: body}}")
    )
    assert (found["test"]["prompt"], found["test"]["completion"], found["test"]["text"]) == (None, None, "body")
    found = splits(project, option("causal_lm", "  train: {path: a.jsonl}\n  targets: {test: {path: b.jsonl}}"))
    assert "text" not in found["test"]
    assert found["test"]["prompt"] == "prompt"


OWN = """
defaults: [trak, _self_]
name: mine
dataset:
  train: {{_target_: plug.Data, rows: 9, split: train, max_length: 7, mean: [0.5], width: 3}}
  targets:
    test: {test}
"""


def test_a_split_of_a_class_of_ones_own_takes_preprocessing_only(project: Project) -> None:
    found = splits(project, OWN.format(test="{_target_: plug.Data, rows: 2}"))["test"]
    assert found == {"_target_": f"{project.module}.Data", "rows": 2, "max_length": 7, "mean": [0.5]}


def test_a_split_without_a_class_is_the_training_set_with_other_samples(project: Project) -> None:
    found = splits(project, OWN.format(test="{rows: 2, split: test}"))["test"]
    assert found == {
        "_target_": f"{project.module}.Data",
        "rows": 2,
        "split": "test",
        "max_length": 7,
        "mean": [0.5],
        "width": 3,
    }


def test_a_split_of_another_class_takes_nothing_but_a_data_set_inside_it_does(project: Project) -> None:
    inside = "{_target_: trak_cli.plugins.text.CausalTexts, path: b.jsonl}"
    tokens = f"{{_target_: trak_cli.plugins.text.TokenTargets, texts: {inside}}}"
    text = option("causal_lm", f"  train: {{path: a.jsonl, max_length: 7}}\n  targets: {{tokens: {tokens}}}")
    found = splits(project, text)["tokens"]
    assert set(found) == {"_target_", "texts"}
    assert found["texts"]["max_length"] == 7
    assert found["texts"]["text"] == "text"
    assert splits(project, OWN.format(test="{_target_: plug.Other, rows: 2}"))["test"] == {
        "_target_": f"{project.module}.Other",
        "rows": 2,
    }
