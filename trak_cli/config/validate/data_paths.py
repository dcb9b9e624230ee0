"""Problems with the paths of shipped data sets, which can be found without building the data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trak_cli.config.validate.plugins import TARGET
from trak_cli.config.wording import join, nearest, shown
from trak_cli.errors import Problem

#: Packages whose data sets take a file or a folder as ``path`` and ``table``.
_SHIPPED = "trak_cli.plugins."
_PATHS = ("path", "table")

#: Suffixes of files of texts. Another path of theirs may be a data set of the hub.
_TEXTS = "trak_cli.plugins.text."
_TEXT_FILES = (".jsonl", ".csv", ".tsv", ".parquet")


def data_path_problems(node: Any, key: str, base: Path) -> Iterator[Problem]:
    """Paths of a data set, and of those nested in it, that do not exist. Relative paths start at ``base``."""
    if not isinstance(node, Mapping):
        return
    target = str(node.get(TARGET, ""))
    for name, value in node.items():
        where = join(key, str(name))
        if isinstance(value, Mapping):
            yield from data_path_problems(value, where, base)
        elif name in _PATHS and target.startswith(_SHIPPED) and isinstance(value, str) and value and value != "???":
            if target.startswith(_TEXTS) and not value.endswith(_TEXT_FILES):
                continue
            path = base / value
            if not path.exists():
                found = f"{shown(value)}, which is no file or folder in {base.resolve()}"
                yield Problem(where, found, "a file or folder that exists", _remedy(where, value, path))


def _remedy(where: str, value: str, path: Path) -> str:
    beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    meant = nearest(path.name, beside)
    return f"did you mean {where}={Path(value).parent / meant}?" if meant else "correct the path"
