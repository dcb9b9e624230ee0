"""YAML text as trees of OmegaConf. A text is parsed once per process; the shipped files are read by every call."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf


def read_tree(path: Path) -> DictConfig | ListConfig:
    """The content of a YAML file; the caller may change it.

    Raises:
        YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError: the file cannot be read.
    """
    return tree_of(path.read_text(encoding="utf-8"))


def tree_of(text: str) -> DictConfig | ListConfig:
    """The content of a YAML text; the caller may change it. It raises what :func:`read_tree` raises."""
    tree: DictConfig | ListConfig = OmegaConf.create(_parsed(text))
    return tree


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    """The content as plain objects, which nobody changes. PyYAML takes milliseconds for it."""
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
