"""The YAML files: those shipped with the program, and those in the user's folder."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trak_cli
from trak_cli.config.wording import nearest, one_of
from trak_cli.errors import ConfigError, Problem

SUFFIX = ".yaml"
SHIPPED_PACKAGE = "trak_cli.configs"
DEFAULT_NAME = "trak"

#: Keys that hold neither a section nor a plugin, and so are no config group.
_VALUES = ("name", "store", "device", "threads", "seed", "extensions", "checkpoints", "vars")


@functools.cache
def shipped_folder() -> Path:
    """The folder of the shipped YAML files. An installation has them as a package, a source checkout beside the package."""
    try:
        installed = importlib.import_module(SHIPPED_PACKAGE)
    except ModuleNotFoundError:
        return source_folder()
    return Path(installed.__path__[0])


def source_folder() -> Path:
    """The folder of the shipped files in a source checkout, beside the package."""
    return Path(trak_cli.__file__).resolve().parent.parent / "configs"


def names_in(folder: Path) -> list[str]:
    """Names, without the suffix, of the YAML files directly in the folder."""
    return sorted(item.name.removesuffix(SUFFIX) for item in folder.iterdir() if item.name.endswith(SUFFIX))


def config_groups(config_dir: Path | None = None) -> dict[str, list[str]]:
    """Every config group and its options: the shipped ones and, with a folder, those of the user.

    A sub-folder of the user's folder is a group if it holds a YAML file, unless its name is a key with a single value: a
    folder ``checkpoints`` does not turn ``checkpoints=…`` into a selection.
    """
    groups: dict[str, set[str]] = {}
    for root in _roots(config_dir):
        for folder in root.iterdir():
            if folder.is_dir() and not folder.name.startswith((".", "_")) and folder.name not in _VALUES:
                names = names_in(folder)
                if names:
                    groups.setdefault(folder.name, set()).update(names)
    return {group: sorted(groups[group]) for group in sorted(groups)}


def option_exists(group: str, option: str, config_dir: Path | None) -> bool:
    """Whether ``group=option`` names a file, which may be in a sub-folder of the group."""
    name = f"{group}/{option}".removesuffix(SUFFIX) + SUFFIX
    try:
        return any(root.joinpath(name).is_file() for root in _roots(config_dir))
    except (OSError, ValueError):  # a name that no file can have
        return False


def read_option(group: str, option: str, config_dir: Path | None) -> dict[str, Any]:
    """The keys and values of ``group=option``, as written; empty if there is no such file."""
    # Imported here, because shell completion uses the other functions and must answer quickly.
    from omegaconf import OmegaConf

    from trak_cli.config.compose.yaml_text import tree_of

    tree = OmegaConf.to_container(tree_of(_option_text(group, option, config_dir)))
    return {str(key): value for key, value in tree.items() if key != "defaults"} if isinstance(tree, dict) else {}


def option_comment(group: str, option: str, config_dir: Path | None) -> str:
    """The first paragraph of the comment at the top of the file of ``group=option``, as one line; may be empty."""
    words: list[str] = []
    for line in _option_text(group, option, config_dir).splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#") or not line.strip("# "):
            break
        words.append(line.removeprefix("#").strip())
    return " ".join(words)


def _option_text(group: str, option: str, config_dir: Path | None) -> str:
    """The file of ``group=option``; empty where there is none."""
    name = f"{group}/{option}".removesuffix(SUFFIX) + SUFFIX
    files = (root.joinpath(name) for root in _roots(config_dir))
    return next((file.read_text(encoding="utf-8") for file in files if file.is_file()), "")


def choose_config(config_name: str | None, config_dir: Path | None) -> str:
    """The name of the config to compose.

    Without a name: the only YAML file of the user's folder, else the shipped default.

    Raises:
        ConfigError: the folder does not exist, the choice is ambiguous, or there is no file of that name.
    """
    if config_dir is not None and not config_dir.is_dir():
        kind = "a file" if config_dir.exists() else "nothing of that name"
        expected = "a folder with YAML files"
        raise ConfigError(Problem("--config-dir", f"{config_dir} ({kind})", expected, "check the path to the folder"))
    own = names_in(config_dir) if config_dir is not None else []
    if config_name is None:
        if len(own) > 1:
            found = f"no name, and {len(own)} YAML files in {config_dir}"
            raise ConfigError(Problem("--config-name", found, one_of(own), f"choose one, for example --config-name {own[0]}"))
        return own[0] if own else DEFAULT_NAME
    name = config_name.removesuffix(SUFFIX)
    if any(root.joinpath(name + SUFFIX).is_file() for root in _roots(config_dir)):
        return name
    known = sorted({*own, *names_in(shipped_folder())})
    meant = nearest(name, known)
    if config_dir is None and Path(name + SUFFIX).is_file():
        remedy = f"{name}{SUFFIX} is in the current folder: give --config-dir . as well"
        raise ConfigError(Problem("--config-name", repr(config_name), one_of(known), remedy))
    remedy = f"did you mean --config-name {meant}?" if meant else "give the name of a YAML file, with --config-dir its folder"
    raise ConfigError(Problem("--config-name", repr(config_name), one_of(known), remedy))


def _roots(config_dir: Path | None) -> Iterator[Path]:
    if config_dir is not None:
        yield config_dir
    yield shipped_folder()
