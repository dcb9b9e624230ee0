"""A configuration that comes with a store is named before the code that it names is run."""

from __future__ import annotations

import shutil

import pytest
from tiny_project import Project


@pytest.mark.parametrize("place", [".", "theirs", "checkpoints/deep"])
def test_a_configuration_inside_a_store_is_named_before_its_code_runs(scored: Project, place: str) -> None:
    folder = scored.store / place
    folder.mkdir(parents=True, exist_ok=True)
    config = (scored.store / "config.yaml").read_text().replace("tiny_plugin.Net", "no_such_module.Net")
    (scored.store / "config.yaml").unlink()
    (folder / "config.yaml").write_text(f"defaults: [trak, _self_]\n{config}")
    outcome = scored.trak("featurize", "-d", str(folder))
    assert outcome.stderr.startswith("warning: ")
    first = outcome.stderr.partition("\n")[0]
    for text in (str(folder.resolve() / "config.yaml"), "comes with the store", "no_such_module.Net", "tiny_plugin.Data"):
        assert text in first


def test_a_configuration_beside_a_store_is_ones_own(scored: Project) -> None:
    assert "comes with" not in scored.done("top").stderr


def test_a_configuration_in_a_store_that_names_no_code_needs_no_word(scored: Project) -> None:
    shutil.move(scored.store / "config.yaml", scored.folder / "away.yaml")
    (scored.store / "mine.yaml").write_text("defaults: [trak, _self_]\nname: tiny\n")
    assert "comes with" not in scored.trak("status", "-d", str(scored.store)).stderr
