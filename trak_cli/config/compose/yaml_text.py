"""YAML text as trees of OmegaConf, and plain values as YAML text.

A text is parsed once per process, because every call reads the shipped files.
"""

from __future__ import annotations

import copy
import functools
import io
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf._utils import get_omega_conf_dumper
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from trak_cli.user_files import read_text
from trak_cli.user_yaml import MAX_BYTES, require_simple


class UnusableYamlError(YAMLError):  # type: ignore[misc]
    """A YAML text that is too long, nested too deeply, or whose aliases stand for too many values."""


def read_tree(path: Path) -> DictConfig | ListConfig:
    """The content of a YAML file; the caller may change it.

    Raises:
        YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError: the file cannot be read.
    """
    return tree_of(read_yaml_text(path))


def read_yaml_text(path: Path) -> str:
    """The text of a YAML file.

    Raises:
        YAMLError, UnicodeDecodeError, OSError: the file cannot be read, or is too long.
    """
    try:
        return read_text(path, limit=MAX_BYTES)
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise UnusableYamlError(str(error)) from error


def tree_of(text: str) -> DictConfig | ListConfig:
    """The content of a YAML text; the caller may change it. It raises what :func:`read_tree` raises."""
    return copy.deepcopy(_parsed(text))


def text_of(values: Any) -> str:
    """Plain values as YAML text, as ``OmegaConf.to_yaml`` writes it; libyaml takes a tenth of the time."""
    text: str = yaml.dump(values, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)
    return text


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """It quotes the texts that OmegaConf would read as something else, such as 1e3."""


_Dumper.add_representer(str, get_omega_conf_dumper().str_representer)


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> DictConfig | ListConfig:
    """The tree that is copied. PyYAML takes milliseconds for it."""
    try:
        require_simple(text)  # before OmegaConf, which copies what an alias stands for
        return OmegaConf.load(io.StringIO(text))
    except (YAMLError, OmegaConfBaseException):
        raise
    except (ValueError, AssertionError, RecursionError, LookupError, TypeError, AttributeError) as error:  # of OmegaConf
        raise UnusableYamlError(str(error) or "text that OmegaConf cannot use") from error
