"""Importing the object that ``_target_: module.Name`` names, with an exact reason where that fails."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from trak_cli.config.wording import nearest, one_line
from trak_cli.errors import ConfigError, Problem
from trak_cli.user_errors import text_of

#: Folders that were added to ``sys.path``, the current one first. Modules from the others are stale.
_folders: list[Path] = []


def use_folder(folder: Path) -> None:
    """Make modules beside the user's YAML importable, instead of those of a folder used earlier in this process."""
    folder = folder.resolve()
    for old in _folders:
        if old != folder and str(old) in sys.path:
            sys.path.remove(str(old))
    if folder in _folders:
        _folders.remove(folder)
    _folders.insert(0, folder)
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


@contextmanager
def imported_again() -> Iterator[None]:
    """Inside, modules of the user's folder are imported again, without the values that they or their classes have kept."""
    before = _own_modules()
    for name in before:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in _own_modules():
            del sys.modules[name]
        sys.modules.update(before)


def _own_modules() -> dict[str, ModuleType]:
    """The loaded modules whose top-level module or package lies directly in the user's folder."""
    beside = {path.stem for path in _folders[0].glob("*")} if _folders else set()
    tops = {top for name in sys.modules if (top := name.partition(".")[0]) in beside}
    own = {top: path for top in tops if (path := _own_file(top)) is not None}
    own = {top: path for top, path in own.items() if Path(str(getattr(sys.modules.get(top), "__file__", ""))).resolve() == path}
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in own}


def locate(path: str, key: str) -> Any:
    """The object at a dotted path.

    Args:
        path: ``package.module.Name`` (or ``….Class.method``).
        key: the config key that names it, for messages.

    Raises:
        ConfigError: the path is malformed, or the module or the name does not exist, or the import fails.
    """
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ConfigError(Problem(key, repr(path), "a dotted path, module.Name", "give the module and the name in it"))
    _forget_stale(parts[0], key)
    module, rest = _import_longest(parts, key)
    found: Any = module
    for depth, name in enumerate(rest):
        if not hasattr(found, name):
            holder = ".".join(parts[: len(parts) - len(rest) + depth])
            raise ConfigError(_no_attribute(key, path, holder, found, name))
        found = getattr(found, name)
    return found


def import_extensions(names: Any, key: str = "extensions") -> list[Problem]:
    """Import the modules that a configuration lists; returns a problem for each that cannot be imported."""
    problems: list[Problem] = []
    for index, name in enumerate(names if isinstance(names, Sequence) and not isinstance(names, str) else []):
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            continue  # an interpolation or another type, which the checker reports
        parts = name.split(".")
        try:
            _forget_stale(parts[0], f"{key}[{index}]")
            _import(name, parts, f"{key}[{index}]")
        except ConfigError as error:
            problems += error.problems
    return problems


def _import_longest(parts: list[str], key: str) -> tuple[ModuleType, list[str]]:
    """The longest leading part of the path that is a module, and the rest of the path."""
    module = _import(parts[0], parts, key)
    for end in range(1, len(parts)):
        name = ".".join(parts[: end + 1])
        is_attribute = hasattr(module, parts[end]) and name not in sys.modules
        if is_attribute or not hasattr(module, "__path__") or importlib.util.find_spec(name) is None:
            return module, parts[end:]
        module = _import(name, parts, key)
    return module, []


def _import(name: str, parts: list[str], key: str) -> ModuleType:
    path = ".".join(parts)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            found = f"{path}, but there is no module {name!r}"
            remedy = f"put {parts[0]}.py beside your YAML and give that folder as --config-dir, or install the package"
            if Path(f"{parts[0]}.py").is_file():
                found += f"; {parts[0]}.py is in {Path.cwd()}, which is not the folder of the YAML file"
                remedy = f"put {parts[0]}.py beside your YAML file, or run: export PYTHONPATH=."
            raise ConfigError(Problem(key, found, "a module that can be imported", remedy)) from error
        raise ConfigError(_broken_module(key, path, name, error)) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # code of the user runs here and may raise anything, SystemExit included
        raise ConfigError(_broken_module(key, path, name, error)) from error


def _broken_module(key: str, path: str, name: str, error: BaseException) -> Problem:
    place = ""
    if isinstance(error, SyntaxError):
        place = f" ({error.filename}, line {error.lineno})"
    elif error.__traceback__ is not None:
        trace = error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        place = f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"
    reason = one_line(error.msg if isinstance(error, SyntaxError) else text_of(error) or "no message")
    found = f"{path}, but importing {name} raised {type(error).__name__}: {reason}{place}"
    return Problem(key, found, "a module that can be imported", f"fix the module; to test it, run: python -c 'import {name}'")


def _no_attribute(key: str, path: str, holder: str, found: Any, name: str) -> Problem:
    public = sorted(item for item in dir(found) if not item.startswith("_"))
    meant = nearest(name, public)
    remedy = f"did you mean {holder}.{meant}?" if meant else f"check the spelling, or define {name} in {holder}"
    source = getattr(found, "__file__", None)
    where = f" ({source})" if source else ""
    return Problem(key, f"{path}, but {holder}{where} has no {name!r}", "a name that is defined there", remedy)


def _forget_stale(top: str, key: str) -> None:
    """Forget a module of that name that was loaded from an earlier folder; refuse one that another package owns."""
    loaded = sys.modules.get(top)
    own = _own_file(top)
    if loaded is None or own is None or getattr(loaded, "__file__", None) is None:
        return
    origin = Path(str(loaded.__file__)).resolve()
    if origin == own:
        return
    if not any(origin.is_relative_to(folder) for folder in _folders[1:]):
        found = f"the module {top}, which is {own} and also the loaded {origin}"
        raise ConfigError(Problem(key, found, "a module name that no other package uses", f"rename {own.name}"))
    for name in [name for name in sys.modules if name == top or name.startswith(top + ".")]:
        del sys.modules[name]


def _own_file(top: str) -> Path | None:
    """The file of that module in the user's folder, if there is one."""
    if not _folders:
        return None
    candidates = (_folders[0] / f"{top}.py", _folders[0] / top / "__init__.py")
    return next((path.resolve() for path in candidates if path.is_file()), None)
