"""The configuration that a store keeps, read as data: nothing is imported, resolved or evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from trak_cli.config.compose.yaml_text import read_tree
from trak_cli.config.wording import one_line
from trak_cli.errors import Problem, StoreError


def read_stored(path: Path) -> dict[str, Any]:
    """The values of ``config.yaml`` of a store; empty if it has none.

    Raises:
        StoreError: the file cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        tree = read_tree(path)
        values = OmegaConf.to_container(tree, resolve=False)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, OSError) as error:
        raise StoreError(
            Problem(str(path), one_line(error), "a readable configuration", "restore the file, or delete it")
        ) from error
    if not isinstance(tree, DictConfig):
        raise StoreError(Problem(str(path), "no mapping", "a configuration", "restore the file, or delete it"))
    return cast("dict[str, Any]", _unescaped(values))


def _unescaped(value: Any) -> Any:
    """The texts as they were before ``${`` was escaped in them."""
    if isinstance(value, dict):
        return {str(name): _unescaped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_unescaped(item) for item in value]
    return value.replace("\\${", "${") if isinstance(value, str) else value
