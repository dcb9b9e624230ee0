"""The latest compositions of this process, which are used again as long as their files are the same.

Composing takes most of the time of a load, and a process often repeats it: ``trak.attribute`` for each of its stages, for
example.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from trak_cli.config.compose.files import SUFFIX

_MOST = 64

_latest: deque[_Composition] = deque(maxlen=_MOST)


@dataclass(frozen=True)
class _Composition:
    """A composed tree.

    Attributes:
        texts: path of each config that was looked up -> the text of its file; None: there is no file.
    """

    name: str
    choices: tuple[str, ...]
    texts: Mapping[str, str | None]
    tree: DictConfig


def find(name: str, folders: Sequence[str], choices: Sequence[str]) -> DictConfig | None:
    """A copy of the tree that these files were composed to; None if a file differs from those of all kept compositions."""
    texts: dict[str, str | None] = {}
    for kept in _latest:
        if (kept.name, kept.choices) == (name, tuple(choices)):
            texts |= {path: _text(path, folders) for path in kept.texts.keys() - texts.keys()}
            if all(texts[path] == text for path, text in kept.texts.items()):
                return copy.deepcopy(kept.tree)
    return None


def keep(name: str, folders: Sequence[str], choices: Sequence[str], paths: Collection[str], tree: DictConfig) -> None:
    """Keep a copy of a tree that was composed from the configs at these paths."""
    texts = {path: _text(path, folders) for path in paths}
    _latest.append(_Composition(name, tuple(choices), texts, copy.deepcopy(tree)))


def _text(path: str, folders: Sequence[str]) -> str | None:
    files = (Path(folder, path.removesuffix(SUFFIX) + SUFFIX) for folder in folders)
    return next((file.read_text(encoding="utf-8") for file in files if file.is_file()), None)
