"""One plain tree from YAML files, group selections and overrides; types are checked elsewhere.

Hydra stops at the first problem. It therefore gets the group selections only, which were checked before; values are set one
by one afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from trak_cli.config.compose.files import DEFAULT_NAME, SUFFIX, shipped_folder
from trak_cli.config.compose.hydra_files import composed
from trak_cli.config.compose.overrides import Change, Choice
from trak_cli.config.compose.yaml_text import read_tree
from trak_cli.config.wording import join, nearest, one_line, one_of, shown
from trak_cli.errors import ConfigError, Problem

#: Names in Hydra's store of the shipped trak.yaml and of a user's trak.yaml that inherits it.
SHIPPED_NAME, OWN_NAME = "trak_shipped", "trak_own"


@dataclass(frozen=True)
class Source:
    """The config to compose: its name, and the user's folder, which is searched first."""

    name: str
    config_dir: Path | None

    @functools.cached_property
    def own_file(self) -> Path | None:
        """The user's file of that name, or None."""
        path = self.config_dir / (self.name + SUFFIX) if self.config_dir is not None else None
        return path if path is not None and path.is_file() else None

    @functools.cached_property
    def own_values(self) -> dict[str, Any]:
        """The user's own file alone, unresolved, as plain objects; empty if it cannot be read."""
        if self.own_file is None:
            return {}
        try:
            tree = read_tree(self.own_file)
        except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, OSError):  # compose_files reports it
            return {}
        return cast("dict[str, Any]", OmegaConf.to_container(tree, resolve=False)) if isinstance(tree, DictConfig) else {}


def compose_files(source: Source, choices: Sequence[Choice]) -> DictConfig:
    """The composed files, as a plain tree that accepts any key.

    Raises:
        ConfigError: a file cannot be read, or its defaults list cannot be resolved. Every unreadable file is reported.
    """
    try:
        tree = composed(_primary(source), _search_path(source), [choice.text for choice in choices])
    except RecursionError as error:
        problem = Problem(
            source.name,
            "a defaults list that includes the file itself",
            "files that do not include each other",
            f"rename {source.name}{SUFFIX} if it inherits a shipped config of the same name",
        )
        raise ConfigError(problem) from error
    # Hydra reports malformed files and defaults lists by any of these, assertions included.
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, AssertionError, OSError) as error:
        broken = unreadable_files(source)
        raise ConfigError(broken or [_composition_problem(source, error)]) from error
    OmegaConf.set_struct(tree, False)
    _checkpoints_as_section(tree)
    return tree


def as_written(tree: DictConfig, key: str, default: Any = None) -> Any:
    """The value of a key at the top level as plain objects, unresolved; the default if there is no such key."""
    if key not in tree.keys():  # noqa: SIM118 - `in tree` is false for ??? and for what does not resolve
        return default
    if OmegaConf.is_missing(tree, key) or OmegaConf.is_interpolation(tree, key):
        return cast("dict[str, Any]", OmegaConf.to_container(tree, resolve=False))[key]
    return OmegaConf.to_container(tree[key], resolve=False) if OmegaConf.is_config(tree[key]) else tree[key]


def own_tree(source: Source) -> DictConfig:
    """The keys of the user's own file, for checks when the files cannot be composed; empty if it cannot be read."""
    tree = OmegaConf.create({key: value for key, value in source.own_values.items() if key != "defaults"})
    _checkpoints_as_section(tree)
    return tree


def apply_changes(tree: DictConfig, changes: Sequence[Change]) -> list[Problem]:
    """Set or delete values in the tree, in order; returns the problems of those that failed."""
    problems: list[Problem] = []
    for change in changes:
        if change.delete:
            problem = _delete(tree, change)
            if problem is not None:
                problems.append(problem)
            continue
        try:
            plain = change.key == "checkpoints" and not isinstance(change.value, dict)
            key = "checkpoints.files" if plain else change.key
            # A mapping is merged into a mapping; everything else replaces the old value.
            merge = isinstance(change.value, dict) and not isinstance(OmegaConf.select(tree, key), ListConfig)
            OmegaConf.update(tree, key, change.value, merge=merge, force_add=True)
        except (OmegaConfBaseException, ValueError) as error:  # ValueError: a name instead of a list index
            reason = one_line(str(error).partition("full_key")[0])
            problems.append(
                Problem(
                    change.key,
                    shown(change.value),
                    f"a value that fits there ({reason})",
                    "check the key and the value",
                )
            )
    return problems


def unreadable_files(source: Source) -> list[Problem]:
    """A problem for each YAML file of the user's folder and its groups that cannot be read."""
    if source.config_dir is None:
        return []
    paths = sorted(source.config_dir.glob(f"*{SUFFIX}")) + sorted(source.config_dir.glob(f"*/*{SUFFIX}"))
    return [problem for path in paths if (problem := _unreadable(path)) is not None]


def _checkpoints_as_section(tree: DictConfig) -> None:
    """Write ``checkpoints: PATTERN`` as ``checkpoints: {files: PATTERN}``."""
    written = as_written(tree, "checkpoints", {})
    if not isinstance(written, dict):
        tree["checkpoints"] = {"files": written}


def _unreadable(path: Path) -> Problem | None:
    try:
        read_tree(path)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        return Problem(where, one_line(error.problem or error), "valid YAML", "correct the line; indentation is by spaces")
    except OmegaConfBaseException as error:
        return Problem(str(path), one_line(error), "a valid ${…}", "close the braces, or write \\${ for the text ${")
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        return Problem(str(path), one_line(error), "a readable YAML file in UTF-8", "check the file and its permissions")
    return None


def _search_path(source: Source) -> list[str]:
    """The folder of the user and that of the shipped files."""
    shipped = str(shipped_folder())
    return [shipped] if source.config_dir is None else [str(source.config_dir.resolve()), shipped]


def _primary(source: Source) -> str:
    """The name of the config that Hydra composes.

    In a user's trak.yaml, ``trak`` in the defaults list is the shipped config, although Hydra would find the file itself. Both
    are stored under names that differ.
    """
    if source.own_file is None or source.name != DEFAULT_NAME:
        return source.name
    defaults = source.own_values.get("defaults")
    if not isinstance(defaults, list) or DEFAULT_NAME not in defaults:
        return source.name
    own = source.own_values | {"defaults": [SHIPPED_NAME if entry == DEFAULT_NAME else entry for entry in defaults]}
    ConfigStore.instance().store(SHIPPED_NAME, read_tree(shipped_folder() / (DEFAULT_NAME + SUFFIX)))
    ConfigStore.instance().store(OWN_NAME, own)
    return OWN_NAME


def _composition_problem(source: Source, error: Exception) -> Problem:
    text = str(error) or str(error.__cause__ or type(error).__name__)
    found = one_line(text.partition("Search path:")[0].partition("full_key")[0])
    remedy = "start the file with 'defaults: [trak, _self_]' and put 'override GROUP: OPTION' entries last"
    return Problem(str(source.own_file or source.name), found, "files and a defaults list that Hydra can compose", remedy)


def _delete(tree: DictConfig, change: Change) -> Problem | None:
    parent, _, name = change.key.rpartition(".")
    node = OmegaConf.select(tree, parent) if parent else tree
    if isinstance(node, DictConfig) and name in node:
        with open_dict(node):
            del node[name]
        return None
    known = sorted(str(key) for key in node) if isinstance(node, DictConfig) else []
    meant = nearest(name, known)
    remedy = f"did you mean ~{join(parent, meant)}?" if meant else "leave the override out"
    return Problem(change.key, "no such key to delete", one_of(known), remedy)
