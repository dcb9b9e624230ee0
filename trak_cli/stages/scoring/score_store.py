"""The files of one estimator's scores on one split: what is there, what is missing, and the whole once nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trak_cli.attribution.topk import Extremes, TopBottom, TopK
from trak_cli.errors import StoreError
from trak_cli.stages.index.provenance import provenance
from trak_cli.store.atomic_write import remove
from trak_cli.store.container import read_image
from trak_cli.store.failures import ForeignError
from trak_cli.store.fingerprint import require_same
from trak_cli.store.layout import Layout
from trak_cli.store.publish import is_stored, write_image
from trak_cli.store.temp_files import sweep
from trak_cli.store.tiling import Source
from trak_cli.store.virtual import assemble, is_assembled, read_fingerprint
from trak_cli.types import Float32, Json, Rows

_REMEDY = "keep both by naming this one (estimator.name=NAME), or give score.overwrite=true"


@dataclass(frozen=True)
class ScoreUnit:
    """One block of targets against one shard of training rows: the unit of work."""

    block: int
    targets: Rows
    shard: int
    rows: Rows


@dataclass(frozen=True)
class ScoreFiles:
    """Attributes:
    top_k: how many extremes of each target are kept; None: every score.
    blocks: blocks of targets.
    shards: shards of training rows.
    overwrite: files of another fingerprint are removed instead of refused.
    """

    layout: Layout
    estimator: str
    split: str
    top_k: int | None
    blocks: Sequence[Rows]
    shards: Sequence[Rows]
    fingerprint: Json
    overwrite: bool

    @property
    def targets(self) -> int:
        return self.blocks[-1].stop

    @property
    def rows(self) -> int:
        return self.shards[-1].stop

    @property
    def whole(self) -> Path:
        """The file that holds, or refers to, all of them."""
        dense, top = self._wholes
        return dense if self.top_k is None else top

    @property
    def _wholes(self) -> tuple[Path, Path]:
        """Where dense scores and extremes are put together: of both only one may be there, for they share their units."""
        return self.layout.scores(self.estimator, self.split), self.layout.scores_top(self.estimator, self.split)

    def units(self) -> list[ScoreUnit]:
        """All units, in the order on which all workers agree."""
        return [
            ScoreUnit(block, targets, shard, rows)
            for block, targets in enumerate(self.blocks)
            for shard, rows in enumerate(self.shards)
        ]

    def path(self, unit: ScoreUnit) -> Path:
        """The file of one unit."""
        return self.layout.scores_shard(self.estimator, self.split, unit.block, unit.shard)

    def require_ours(self) -> set[ScoreUnit]:
        """Make sure that no file of other scores lies where these belong; the units whose files are there.

        Raises:
            StoreError: one is damaged, or does (and ``overwrite`` is not set); each differing key is named.
        """
        for whole in self._wholes:  # before the units: without them no whole of other scores may be left
            self._keep(whole)
        return {unit for unit in self.units() if self._keep(self.path(unit))}

    def _keep(self, path: Path) -> bool:
        """Whether a file of ours is there; what is not ours is refused, or removed with ``overwrite``."""
        if not path.exists():
            return False
        try:
            require_same(path, read_fingerprint(path), self.fingerprint)
        except StoreError as error:
            if self.overwrite:
                remove(path)
                return False
            if isinstance(error, ForeignError):
                raise ForeignError([replace(problem, remedy=_REMEDY) for problem in error.problems]) from None
            raise
        return True

    def has(self, unit: ScoreUnit) -> bool:
        """Whether the block of a unit is stored by now.

        Raises:
            StoreError: another run's is, or a damaged one.
        """
        return is_stored(self.path(unit), self.fingerprint)

    def write(self, unit: ScoreUnit, scores: Float32) -> None:
        """File the scores (targets, rows) of a unit, or their extremes."""
        arrays: dict[str, np.ndarray] = {"scores": scores}
        if self.top_k is not None:
            best = TopK(len(unit.targets), self.top_k)
            best.update(scores, unit.rows.start)
            arrays = _arrays_of(best.result())
        write_image(self.path(unit), arrays, self.fingerprint, provenance())

    def assemble(self) -> bool:
        """Make the whole of the units, if all are there and it is not made of them yet; whether it is there afterwards."""
        sweep(self.whole.parent)
        if not all(map(self.has, self.units())):
            return False
        if self.top_k is not None:
            self._merge(self.top_k)
            return True
        sources = [Source(self.path(unit), unit.targets, unit.rows) for unit in self.units()]
        if not is_assembled(self.whole, sources):
            assemble(self.whole, sources, (self.targets, self.rows), self.fingerprint, provenance())
        return True

    def _merge(self, k: int) -> None:
        """Merge the extremes of every shard, block of targets after block of targets."""
        if self.whole.exists():
            return
        merged = []
        for block, targets in enumerate(self.blocks):
            best = TopK(len(targets), k)
            for unit in self.units():
                if unit.block == block:
                    best.merge(TopK.restore(top_bottom_of(read_image(self.path(unit)).arrays), k))
            merged.append(_arrays_of(best.result()))
        arrays = {key: np.concatenate([part[key] for part in merged]) for key in merged[0]}
        write_image(self.whole, arrays, self.fingerprint, provenance())


def top_bottom_of(arrays: dict[str, np.ndarray]) -> TopBottom:
    """The extremes that a file holds."""
    return TopBottom(
        Extremes(arrays["top_rows"], arrays["top_scores"]), Extremes(arrays["bottom_rows"], arrays["bottom_scores"])
    )


def _arrays_of(ends: TopBottom) -> dict[str, np.ndarray]:
    return {
        "top_rows": ends.top.indices,
        "top_scores": ends.top.values,
        "bottom_rows": ends.bottom.indices,
        "bottom_scores": ends.bottom.values,
    }
