"""YAML texts, which are parsed once per process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from trak_cli.config.compose.yaml_text import read_tree, text_of, tree_of


def test_a_tree_belongs_to_its_caller() -> None:
    text = "a: {b: [1, 2], c: '${a.b}'}"
    first = tree_of(text)
    first.a.b.append(3)
    first.a.d = "new"
    assert OmegaConf.to_container(tree_of(text), resolve=True) == {"a": {"b": [1, 2], "c": [1, 2]}}


def test_an_edited_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for value in (1, 2, 1):
        path.write_text(f"a: {value}")
        assert read_tree(path) == {"a": value}


def test_text_keeps_its_interpolations_and_missing_values() -> None:
    text = "a: ${b}\nb: ???\nc: \\${b}\nd:\n"
    assert OmegaConf.to_yaml(tree_of(text)) == OmegaConf.to_yaml(OmegaConf.create(text))
    assert tree_of("") == {}


TEXTS = ["1e3", "true", "off", "null", "~", "1_000", ".5", "1.", "-.inf", "2020-01-01", "12:30:45", "0o7", "", " a ", "a: b"]
MORE = [
    "# no",
    "- a",
    "*a",
    "&b",
    "!t",
    "@x",
    "%",
    "'q'",
    '"d"',
    "\\${x}",
    "???",
    "tab\t",
    "two\nlines\n",
    "word " * 40,
    "é \u2028 😀",
]


@pytest.mark.parametrize(
    "values",
    [
        {"texts": TEXTS + MORE},
        dict.fromkeys(TEXTS, 1),
        {"numbers": [0, -3, 1.0, 1e-7, 1e20, float("inf"), -0.0], "others": [None, True, False]},
        {"empty": {"a": {}, "b": [], "c": [[], {}]}, 3: {"x": [{"y": [1, [2]]}]}},
    ],
    ids=["texts", "keys", "numbers", "containers"],
)
def test_written_values_read_back_the_same(values: Any) -> None:
    read = OmegaConf.to_container(tree_of(text_of(values)), resolve=False)
    assert repr(read) == repr(values)
