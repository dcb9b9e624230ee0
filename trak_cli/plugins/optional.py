"""Imports packages that only some plugins need, and names the extra that installs a missing one."""

from __future__ import annotations

import importlib
from typing import Any

from trak_cli.errors import ConfigError, Problem
from trak_cli.user_errors import first_line


def needed(module: str, extra: str, where: str) -> Any:
    """The module, imported.

    Args:
        module: its dotted name.
        extra: the extra of this program that installs it.
        where: what needs it, for the message.

    Raises:
        ConfigError: it is not installed, or does not fit the installed PyTorch.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        found = f"no {package}" if absent else f"a {package} that cannot be imported ({first_line(error)})"
    except (RuntimeError, OSError) as error:  # a build for another PyTorch fails while it registers its operators
        found = f"a {package} that cannot be imported ({first_line(error)})"
    raise ConfigError(Problem(where, found, f"the package {package}", f"pip install 'trak-cli[{extra}]'"))
