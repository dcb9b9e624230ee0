"""The checkpoints of a run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from trak_cli.config.schema import TrakConfig
from trak_cli.gradients.options import REPRESENTATION
from trak_cli.plugins.checkpoints.files import find
from trak_cli.plugins.checkpoints.identity import name_of, sha256
from trak_cli.plugins.checkpoints.member import AUTOMATIC, FRESH, Member
from trak_cli.plugins.checkpoints.notes import can_be_blended


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights: a checkpoint file or folder, or an ensemble member derived from one in memory.

    Attributes:
        path: the file or folder.
        sha256: the identity of the weights: digest of the file, or of the member.
        name: name of the checkpoint's folder in a store.
        member: how the weights are derived from the file; None for the file itself.
        key, allow: the keys of that name in the config's ``checkpoints``.
    """

    path: Path
    sha256: str
    name: str
    member: Member | None = None
    key: str | None = None
    allow: tuple[str, ...] = ()

    @property
    def blended(self) -> bool:
        """Whether the weights are mixed with fresh ones."""
        return self.member is not None and self.member.blended

    def derived(self, member: Member) -> Checkpoint:
        """A member that is derived from this file."""
        return replace(self, sha256=member.digest(self.sha256), name=self.name + member.suffix, member=member)


def members_of(config: TrakConfig, files: Collection[Path]) -> list[Member]:
    """The members that are derived from each of these checkpoints, none of which is there twice."""
    ensemble = config.ensemble
    count = (AUTOMATIC if len(files) == 1 else 0) if ensemble.members is None else ensemble.members
    if not count:
        return []
    kind = ensemble.kind or (FRESH if all(map(can_be_blended, files)) and not _against_blends(config) else "mask")
    if ensemble.members is None and (kind != FRESH or _against_blends(config)):
        return []
    return [Member(kind, ensemble.scale_of(kind), config.seed, index) for index in range(1, count + 1)]


def _against_blends(config: TrakConfig) -> bool:
    return bool(config.against_blends) or config.gradients.engine == REPRESENTATION


def find_checkpoints(config: TrakConfig, base: Path) -> list[Checkpoint]:
    """The checkpoints of the config in natural order, each file followed by the ensemble members derived from it.

    Files with equal content count once.
    """
    by_digest: dict[str, Checkpoint] = {}
    chosen = config.checkpoints
    for path in find(chosen.files, base):
        digest = sha256(path, chosen.key)
        by_digest.setdefault(digest, Checkpoint(path, digest, name_of(path, digest), None, chosen.key, tuple(chosen.allow)))
    members = members_of(config, [file.path for file in by_digest.values()])
    return [one for file in by_digest.values() for one in (file, *map(file.derived, members))]
