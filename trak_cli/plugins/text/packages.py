"""Optional packages, imported where they are needed; a missing one is a problem of the configuration, not a traceback."""

from __future__ import annotations

import importlib
from typing import Any

from trak_cli.errors import ConfigError, Problem


def needed(package: str, where: str) -> Any:
    """A package of the extra ``text``.

    Args:
        where: the config key that asks for it, for the message.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == package.partition(".")[0]:
            found = f"no package {package.partition('.')[0]}"
            raise ConfigError(Problem(where, found, "the packages for text", "pip install 'trak-cli[text]'")) from None
        raise
