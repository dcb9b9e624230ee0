"""YAML texts, which are parsed once per process."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from trak_cli.config.compose.yaml_text import read_tree, tree_of


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
