"""The name and identity of a derived checkpoint; :mod:`trak_cli.plugins.checkpoints.derived` computes its weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

#: Value of ``ensemble.kind`` -> the scale that it has unless ``ensemble.scale`` is set.
SCALES = {"noise": 0.1, "dropout": 0.1, "mask": 0.1, "fresh": 0.25}
KINDS = tuple(SCALES)

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
        """Whether the weights are mixed with fresh ones, so that outputs under them say nothing about the checkpoint's."""
        return self.kind == "fresh"

    @property
    def suffix(self) -> str:
        """The suffix of the member's name after the checkpoint's; unique to the member."""
        return f"+{self.kind}{self.scale!r}.{self.seed}.{self.index}"

    def digest(self, checkpoint: str) -> str:
        """The identity of this member, 64 hexadecimal digits, for a checkpoint with the given SHA-256."""
        text = f"member {_VERSION} {checkpoint} {self.kind} {self.scale!r} {self.seed} {self.index}"
        return hashlib.sha256(text.encode()).hexdigest()
