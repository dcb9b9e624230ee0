"""Fixtures of the config tests: a user's project, and the shipped configuration by itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from config_project import Project, by_key, make_project

from trak_cli.config.load import load
from trak_cli.errors import ConfigError, Problem

_COUNTER = itertools.count()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A user's project, in its own folder, which is the current one."""
    made = make_project(tmp_path / "project", str(next(_COUNTER)))
    monkeypatch.chdir(made.folder)
    return made


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Problem]]:
    """Problems of the shipped configuration with overrides, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def problems(stage: str, *overrides: str, config_name: str | None = None) -> dict[str, Problem]:
        with pytest.raises(ConfigError) as caught:
            load(stage, config_name, None, list(overrides))
        return by_key(caught.value)

    return problems
