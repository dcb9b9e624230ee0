"""A configuration that this process composed before is composed again as soon as anything that it depends on has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from trak_cli.config.load import load
from trak_cli.config.schema import TrakConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder."""
    (tmp_path / "mine.yaml").write_text("defaults: [trak, _self_]\nname: mine\n")
    return tmp_path


def loaded(folder: Path, *overrides: str) -> TrakConfig:
    return load("top", None, folder, overrides).config


def test_values_of_one_call_are_not_those_of_the_next(folder: Path) -> None:
    before = loaded(folder)
    assert loaded(folder, "seed=5", "estimator.ridge=2", "vars.list=[1]", "lds.targets=[1]").seed == 5
    assert loaded(folder, "estimator=cosine").estimator.name == "cosine"
    assert loaded(folder) == before


def test_the_users_file_was_edited(folder: Path) -> None:
    assert loaded(folder).seed == 0
    for seed in (3, 4, 3):
        (folder / "mine.yaml").write_text(f"defaults: [trak, _self_]\nname: mine\nseed: {seed}\n")
        assert loaded(folder).seed == seed


@pytest.mark.parametrize("selected", ["estimator=cosine", None])
def test_an_option_of_the_user_s_appears_changes_and_goes(folder: Path, selected: str | None) -> None:
    overrides, name = ([selected], "cosine") if selected else ([], "early_training")
    shipped = loaded(folder, *overrides)
    (folder / "estimator").mkdir()
    option = folder / "estimator" / f"{name}.yaml"
    for ridge in (7, 8):
        option.write_text(f"name: mine\nridge: {ridge}\n")
        assert (loaded(folder, *overrides).estimator.name, loaded(folder, *overrides).estimator.ridge) == ("mine", ridge)
    option.unlink()
    assert loaded(folder, *overrides) == shipped


def test_folders_with_the_same_file_have_their_own_options(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number) / "model").mkdir(parents=True)
        (tmp_path / str(number) / "mine.yaml").write_text("defaults: [trak, _self_, {override model: net}]\nname: mine\n")
        (tmp_path / str(number) / "model" / "net.yaml").write_text(f"_target_: plugin.Net{number}\n")
    for number in (1, 2, 1):
        assert loaded(tmp_path / str(number)).model == {"_target_": f"plugin.Net{number}"}


def test_a_defaults_list_refers_to_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine.yaml").write_text('defaults: [trak, _self_, {override estimator: "${oc.env:MY_ESTIMATOR}"}]\nname: mine\n')
    for name in ("trak", "cosine", "dot"):
        monkeypatch.setenv("MY_ESTIMATOR", name)
        assert loaded(folder).estimator.name == name


def test_a_users_file_named_like_the_shipped_one_was_edited(folder: Path) -> None:
    (folder / "mine.yaml").unlink()
    for seed in (3, 4, 3):
        (folder / "trak.yaml").write_text(f"defaults: [trak, _self_]\nname: mine\nseed: {seed}\n")
        assert loaded(folder).seed == seed


def test_a_value_refers_to_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine.yaml").write_text("defaults: [trak, _self_]\nname: ${oc.env:MY_NAME}\n")
    for name in ("one", "two"):
        monkeypatch.setenv("MY_NAME", name)
        assert loaded(folder).name == name
