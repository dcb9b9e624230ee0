"""The name and identity of a derived checkpoint; :mod:`trak_cli.plugins.checkpoints.derived` computes its weights."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from trak_cli.plurals import counted

#: Value of ``ensemble.kind`` -> the scale that it has unless ``ensemble.scale`` is set.
SCALES = {"noise": 0.1, "dropout": 0.1, "mask": 0.1, "fresh": 0.25}
KINDS = tuple(SCALES)

#: The kind whose weights are mixed with fresh ones, so that outputs under them say nothing about the checkpoint's.
FRESH = "fresh"

#: How many blends a single checkpoint has unless ``ensemble.members`` is set.
AUTOMATIC = 4

#: Version of the derivation: increase it when the same member would get different weights or statistics.
_VERSION = 2


@dataclass(frozen=True)
class Member:
    """One derived checkpoint of an ensemble. ``index`` counts from 1; number 0 is the checkpoint itself."""

    kind: str
    scale: float
    seed: int
    index: int

    @property
    def blended(self) -> bool:
        """Whether the weights are mixed with fresh ones."""
        return self.kind == FRESH

    @property
    def suffix(self) -> str:
        """The suffix of the member's name after the checkpoint's; unique to the member."""
        return f"+{self.kind}{self.scale!r}.{self.seed}.{self.index}"

    def digest(self, checkpoint: str) -> str:
        """The identity of this member, 64 hexadecimal digits, for a checkpoint with the given SHA-256."""
        text = f"member {_VERSION} {checkpoint} {self.kind} {self.scale!r} {self.seed} {self.index}"
        return hashlib.sha256(text.encode()).hexdigest()


#: What follows the name of a checkpoint's folder in that of a member.
_SUFFIX = re.compile(rf"(?<=-[0-9a-f]{{8}})\+({'|'.join(KINDS)})([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\.([0-9]+)\.([0-9]+)$")


def checkpoint_of(name: str) -> str:
    """The folder, in a store, of the checkpoint from which the member with the folder ``name`` is derived."""
    return _SUFFIX.sub("", name)


def member_of(name: str) -> Member | None:
    """The member whose folder has this name; None for the folder of a checkpoint itself."""
    match = _SUFFIX.search(name)
    if match is None:
        return None
    kind, scale, seed, index = match.groups()
    return Member(kind, float(scale), int(seed), int(index))


def is_blended(name: str) -> bool:
    """Whether the folder belongs to a member whose weights are mixed with fresh ones."""
    member = member_of(name)
    return member is not None and member.blended


def members_in_words(names: Collection[str]) -> str:
    """The members among these folders, such as "4 members derived from it"; "" if there are none."""
    checkpoints = {checkpoint_of(name) for name in names}
    members = len(names) - len(checkpoints)
    return f"{counted(members, 'member')} derived from {'it' if len(checkpoints) == 1 else 'them'}" if members else ""


def leftover_members(names: Iterable[str], run: Iterable[str]) -> list[str]:
    """Those of the folders ``names`` that belong to members of checkpoints of a run which the run itself does not have."""
    own = set(run)
    return [name for name in names if name not in own and checkpoint_of(name) in own]
