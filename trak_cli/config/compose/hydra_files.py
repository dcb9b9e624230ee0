"""Composing YAML files by their defaults lists, as Hydra defines them, without the rest of Hydra.

The public functions of Hydra also compose Hydra's own configuration (launchers, logging), which takes most of the time, and
they find the primary config in the first folder only. The internal ones used here do neither.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

from trak_cli.config.compose import compositions
from trak_cli.config.compose.yaml_text import read_yaml_text, tree_of
from trak_cli.config.schema import TrakConfig

#: What ``configs/trak.yaml`` calls the schema's defaults in its defaults list.
DEFAULTS_NAME = "trak_defaults"


def composed(name: str, folders: Sequence[str], choices: Sequence[str]) -> DictConfig:
    """The config of that name with everything that its defaults list includes.

    Args:
        name: a YAML file without its suffix, or a name in Hydra's ``ConfigStore``.
        folders: folders of YAML files, the first ones first.
        choices: ``group=option``; each replaces the option of the defaults list, or is added to the list.

    Raises:
        HydraException, OmegaConfBaseException, YAMLError, ValueError, AssertionError, OSError: as Hydra raises them.
    """
    if (known := compositions.find(name, folders, choices)) is not None:
        return known
    _prepare_hydra()
    path = ConfigSearchPathImpl()
    for index, folder in enumerate(folders):
        path.append(f"folder{index}", f"{_Folder.scheme()}://{folder}")
    path.append("schema", "structured://")
    loader = ConfigLoaderImpl(path)
    files = _FilesReadOnce(loader.repository)
    with warnings.catch_warnings():
        # Without _self_ in a defaults list, the keys of the file itself win, as its author expects.
        warnings.filterwarnings("ignore", message=".*Defaults list is missing `_self_`")
        defaults = _defaults_list(name, _as_hydra_wants(name, choices, files), files)
        tree = loader._compose_config_from_defaults_list(defaults.defaults, files)
    # What is in Hydra's store, or depends on the environment, may change without a change of a file.
    if not files.is_stored(name) and not files.interpolates():
        compositions.keep(name, folders, choices, files.paths(), tree)
    return tree


class _FilesReadOnce(CachingConfigRepository):
    """Reads every file once. Unlike its base class it copies no sources, because nothing changes the search path here."""

    def __init__(self, repository: IConfigRepository) -> None:
        self.delegate = repository
        self.cache = {}

    def paths(self) -> list[str]:
        """Every config that was looked up."""
        return [key.removeprefix("config_path=") for key in self.cache]

    def is_stored(self, path: str) -> bool:
        """Whether a config is in Hydra's store, and no file."""
        result = self.load_config(path)
        return result is not None and result.path.startswith(StructuredConfigSource.scheme())

    def interpolates(self) -> bool:
        """Whether a defaults list has a ``${...}``."""
        return any("${" in str(result.defaults_list) for result in self.cache.values() if result is not None)


class _Folder(FileConfigSource):
    """A folder of YAML files. Unlike its base class it does not parse a text again that this process has parsed."""

    @staticmethod
    def scheme() -> str:
        """Its own, because a program that calls trak may use Hydra with the base class."""
        return "trak"

    def load_config(self, config_path: str) -> ConfigResult:
        text = read_yaml_text(Path(self.path, self._normalize_file_name(config_path)))
        header = self._get_header_dict(text)
        return ConfigResult(config=tree_of(text), path=f"{self.scheme()}://{self.path}", provider=self.provider, header=header)


@functools.cache
def _prepare_hydra() -> None:
    """Register the defaults of the schema and the kinds of folders; called once per process."""
    version.setbase("1.3")
    setup_globals()
    for kind in (_Folder, StructuredConfigSource):
        SourcesRegistry.instance().register(kind)
    # As a plain mapping, so that Hydra does not stop at the first unknown key or wrong type: the checker reports all.
    # checkpoints is a section or a single value, which Hydra can set in place of null only.
    ConfigStore.instance().store(DEFAULTS_NAME, asdict(TrakConfig()) | {"checkpoints": None})


def _defaults_list(name: str, choices: Sequence[str], files: CachingConfigRepository) -> DefaultsList:
    overrides = OverridesParser.create().parse_overrides(list(choices))
    return create_defaults_list(files, name, overrides, prepend_hydra=False, skip_missing=False)


def _as_hydra_wants(name: str, choices: Sequence[str], files: CachingConfigRepository) -> list[str]:
    """``group=option`` for a group in the defaults list, ``+group=option`` for another one."""
    if not choices:
        return []
    known = _defaults_list(name, [], files).overrides.known_choices
    texts: dict[str, str] = {}
    for choice in choices:  # of two choices of a group, the last one counts
        key = choice.partition("=")[0]
        texts[key] = choice if key in known else f"+{choice}"
    return list(texts.values())
