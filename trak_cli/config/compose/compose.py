"""Composing one plain tree from YAML files, group selections and overrides; types are checked elsewhere.

Hydra stops at the first problem. It therefore gets the group selections only, which were checked before; values are set one
by one afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from trak_cli.config.compose.files import DEFAULT_NAME, SHIPPED_PACKAGE, SUFFIX, is_installed, shipped_folder, source_folder
from trak_cli.config.compose.overrides import NO_HYDRA, Change, Choice
from trak_cli.config.schema import TrakConfig
from trak_cli.config.wording import join, nearest, one_line, one_of, shown
from trak_cli.errors import ConfigError, Problem

#: What ``configs/trak.yaml`` calls the schema's defaults in its defaults list.
DEFAULTS_NAME = "trak_defaults"

#: Names in Hydra's store of the shipped trak.yaml and of a user's trak.yaml that inherits it.
SHIPPED_NAME, OWN_NAME = "trak_shipped", "trak_own"


@dataclass(frozen=True)
class Source:
    """The config to compose: its name, and the user's folder, which is searched first."""

    name: str
    config_dir: Path | None

    @property
    def own_file(self) -> Path | None:
        """The user's file of that name, or None."""
        path = self.config_dir / (self.name + SUFFIX) if self.config_dir is not None else None
        return path if path is not None and path.is_file() else None


def compose_files(source: Source, choices: Sequence[Choice]) -> DictConfig:
    """The composed files, as a plain tree that accepts any key.

    Raises:
        ConfigError: a file cannot be read, or its defaults list cannot be resolved. Every unreadable file is reported.
    """
    try:
        with _hydra(source) as loader:
            name = _primary(source)
            tree = compose(name, overrides=_as_hydra_wants(name, choices, loader))
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


def own_tree(source: Source) -> DictConfig:
    """The user's own file alone, for checks when the files cannot be composed; empty if it cannot be read."""
    if source.own_file is not None and _unreadable(source.own_file) is None:
        tree = OmegaConf.load(source.own_file)
        if isinstance(tree, DictConfig):
            tree.pop("defaults", None)
            _checkpoints_as_section(tree)
            return tree
    return OmegaConf.create({})


def hydra_problem(source: Source) -> Problem | None:
    """A problem if the user's file has a ``hydra:`` section, which would have no effect."""
    if "hydra" not in own_tree(source):
        return None
    return Problem("hydra", f"a section in {source.own_file}", NO_HYDRA, "remove the section; the folder of a run is store: …")


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
    written = OmegaConf.to_container(tree, resolve=False)
    if isinstance(written, dict) and not isinstance(written.get("checkpoints", {}), dict):
        tree["checkpoints"] = {"files": written["checkpoints"]}


def _unreadable(path: Path) -> Problem | None:
    try:
        OmegaConf.load(path)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        return Problem(where, one_line(error.problem or error), "valid YAML", "correct the line; indentation is by spaces")
    except OmegaConfBaseException as error:
        return Problem(str(path), one_line(error), "a valid ${…}", "close the braces, or write \\${ for the text ${")
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        return Problem(str(path), one_line(error), "a readable YAML file in UTF-8", "check the file and its permissions")
    return None


@contextmanager
def _hydra(source: Source) -> Iterator[ConfigLoader]:
    """Hydra for one composition, with the user's folder before the shipped one; its global state is cleared afterwards.

    With the public functions of Hydra the primary config must be in the first folder. These internal ones allow either.
    """
    shipped = f"pkg://{SHIPPED_PACKAGE}" if is_installed() else str(source_folder())
    own = str(source.config_dir.resolve()) if source.config_dir is not None else None
    search_path = create_config_search_path(own or shipped)
    if own is not None:
        search_path.append("trak", shipped, anchor=SearchPathQuery("main", own))
    GlobalHydra.instance().clear()
    try:
        with warnings.catch_warnings():
            # Without _self_ in a defaults list, the keys of the file itself win, as its author expects.
            warnings.filterwarnings("ignore", message=".*Defaults list is missing `_self_`")
            version.setbase("1.3")
            # As a plain mapping, so that Hydra does not stop at the first unknown key or wrong type: the checker reports all.
            # checkpoints is a section or a single value, which Hydra can set in place of null only.
            defaults = OmegaConf.to_container(OmegaConf.structured(TrakConfig)) | {"checkpoints": None}  # type: ignore[operator]
            ConfigStore.instance().store(DEFAULTS_NAME, defaults)
            yield Hydra.create_main_hydra2("trak", search_path).config_loader
    finally:
        GlobalHydra.instance().clear()


def _primary(source: Source) -> str:
    """The name of the config that Hydra composes.

    In a user's trak.yaml, ``trak`` in the defaults list is the shipped config, although Hydra would find the file itself. Both
    are stored under names that differ.
    """
    if source.own_file is None or source.name != DEFAULT_NAME:
        return source.name
    own = OmegaConf.load(source.own_file)
    defaults = own.get("defaults") if isinstance(own, DictConfig) else None
    if not isinstance(own, DictConfig) or not isinstance(defaults, ListConfig) or DEFAULT_NAME not in defaults:
        return source.name
    own.defaults = [SHIPPED_NAME if entry == DEFAULT_NAME else entry for entry in defaults]
    shipped = (shipped_folder() / (DEFAULT_NAME + SUFFIX)).read_text(encoding="utf-8")
    ConfigStore.instance().store(SHIPPED_NAME, OmegaConf.create(shipped))
    ConfigStore.instance().store(OWN_NAME, own)
    return OWN_NAME


def _as_hydra_wants(name: str, choices: Sequence[Choice], loader: ConfigLoader) -> list[str]:
    """``group=option`` for a group in the defaults list, ``+group=option`` for another one."""
    if not choices:
        return []
    known = loader.compute_defaults_list(name, [], RunMode.RUN).overrides.known_choices
    texts: dict[str, str] = {}
    for choice in choices:  # of two choices of a group, the last one counts
        key = choice.text.partition("=")[0]
        texts[key] = choice.text if key in known else f"+{choice.text}"
    return list(texts.values())


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
