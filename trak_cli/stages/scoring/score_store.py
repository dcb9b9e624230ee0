"""The score files of one estimator on one split: units of work, and the complete scores that they are combined into.

The unit of work is one block of targets against a range of training rows. Dense scores have one unit for each shard; they stay
in the files of their units, and one virtual dataset refers to them. With ``score.top_k`` a unit is as large as a part of
finalize, and its file holds only candidates: the highest and lowest k scores of each target among its rows. Once every unit is
there, the candidates are merged into one file and then removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trak_cli.attribution.topk import TopBottom, TopK
from trak_cli.errors import StoreError
from trak_cli.stages.index.provenance import provenance
from trak_cli.store.atomic_write import remove, remove_empty_folders, sync_folder
from trak_cli.store.container import read_image
from trak_cli.store.failures import DamagedError, ForeignError, MissingError
from trak_cli.store.fingerprint import require_same
from trak_cli.store.layout import Layout
from trak_cli.store.publish import is_stored, write_image
from trak_cli.store.temp_files import sweep
from trak_cli.store.tiling import Source
from trak_cli.store.virtual import assemble, is_assembled, read_fingerprint
from trak_cli.types import Float32, Json, Rows


@dataclass(frozen=True)
class ScoreUnit:
    """One block of targets against a range of training rows, number ``shard``: the unit of work."""

    block: int
    targets: Rows
    shard: int
    rows: Rows


@dataclass(frozen=True)
class ScoreFiles:
    """Attributes:
    top_k: number of highest and of lowest scores kept per target; None: every score.
    blocks: blocks of targets.
    shards: ranges of training rows.
    overwrite: files with another fingerprint are removed instead of refused.
    keys: for messages: the config key of the estimator's name, and that of ``overwrite``.
    """

    layout: Layout
    estimator: str
    split: str
    top_k: int | None
    blocks: Sequence[Rows]
    shards: Sequence[Rows]
    fingerprint: Json
    overwrite: bool
    keys: tuple[str, str] = ("estimator.name", "score.overwrite")

    @property
    def targets(self) -> int:
        return self.blocks[-1].stop

    @property
    def rows(self) -> int:
        return self.shards[-1].stop

    @property
    def complete_path(self) -> Path:
        """The file of the complete scores: the virtual dataset of dense scores, or the merged top-k scores."""
        dense, top = self._complete_paths
        return dense if self.top_k is None else top

    @property
    def _complete_paths(self) -> tuple[Path, Path]:
        """Dense and top-k. Only one of them may exist: the files of their units have the same names."""
        return self.layout.scores(self.estimator, self.split), self.layout.scores_top(self.estimator, self.split)

    def units(self) -> list[ScoreUnit]:
        """All units, in the order that all workers share."""
        return [unit for block in range(len(self.blocks)) for unit in self.units_of(block)]

    def units_of(self, block: int) -> Iterator[ScoreUnit]:
        """The units of one block of targets."""
        for shard, rows in enumerate(self.shards):
            yield ScoreUnit(block, self.blocks[block], shard, rows)

    def path(self, unit: ScoreUnit) -> Path:
        """The file of one unit."""
        return self.layout.scores_shard(self.estimator, self.split, unit.block, unit.shard)

    def _fingerprint_of(self, unit: ScoreUnit) -> Json:
        """The fingerprint of the file of a unit: candidates depend on which training rows they were chosen from."""
        if self.top_k is None:
            return self.fingerprint
        return self.fingerprint | {"candidates_of": [unit.rows.start, unit.rows.stop]}

    def require_ours(self, units: Sequence[ScoreUnit] | None = None) -> set[ScoreUnit]:
        """Check that no file of other scores lies where these belong.

        Args:
            units: whose files are checked; None: all.

        Returns:
            Those of them that need no work: those with a file, or all of them once the top-k scores are merged.

        Raises:
            StoreError: a file is damaged, or has another fingerprint (and ``overwrite`` is not set); names each
                differing key.
        """
        for path in self._complete_paths:  # before the units: complete scores must not refer to units that are gone
            self._keep(path)
        units = self.units() if units is None else units
        if self._is_merged():
            return set(units)
        return {unit for unit in units if self._keep(self.path(unit), self._fingerprint_of(unit))}

    def _keep(self, path: Path, fingerprint: Json | None = None) -> bool:
        """Whether a file with our fingerprint is there; another one is refused, or removed with ``overwrite``."""
        if not path.exists():
            return False
        try:
            found = read_fingerprint(path)
            if fingerprint is None:  # of any candidates of these scores
                found.pop("candidates_of", None)
            require_same(path, found, fingerprint or self.fingerprint)
        except MissingError:  # another worker merged the candidates and removed this one
            return False
        except StoreError as error:
            if self.overwrite:
                remove(path)
                return False
            if isinstance(error, ForeignError):
                remedy = f"keep both by naming this one ({self.keys[0]}=NAME), or set {self.keys[1]}=true"
                raise ForeignError([replace(problem, remedy=remedy) for problem in error.problems]) from None
            raise
        return True

    def is_done(self, unit: ScoreUnit) -> bool:
        """Whether a unit is stored by now, in its own file or in the merged top-k scores.

        Raises:
            StoreError: a file is damaged or has another fingerprint.
        """
        # In this order: a candidate is removed only after the merged file is there.
        return is_stored(self.path(unit), self._fingerprint_of(unit)) or self._is_merged()

    def _is_merged(self) -> bool:
        return self.top_k is not None and is_stored(self.complete_path, self.fingerprint)

    def write(self, unit: ScoreUnit, blocks: Iterable[tuple[Rows, Float32]]) -> None:
        """Store the scores of a unit, or their top-k candidates.

        Args:
            blocks: (training rows, scores (targets, rows) of these), which cover the unit; for dense scores one block.
        """
        if self.top_k is None:
            ((_, scores),) = blocks
            arrays: dict[str, np.ndarray] = {"scores": scores}
        else:
            best = TopK(len(unit.targets), self.top_k)
            for rows, scores in blocks:
                best.update(scores, rows.start)
            arrays = best.result().arrays()
        write_image(self.path(unit), arrays, self._fingerprint_of(unit), provenance())

    def complete(self) -> bool:
        """Combine the units into complete scores if all of them are stored; whether the scores are complete afterwards.

        Raises:
            StoreError: a unit is damaged or has another fingerprint.
        """
        sweep(self.complete_path.parent)
        return self._assemble() if self.top_k is None else self._merge(self.top_k)

    def _assemble(self) -> bool:
        if self._lacks_files() or not all(is_stored(self.path(unit), self.fingerprint) for unit in self.units()):
            return False
        sources = [Source(self.path(unit), unit.targets, unit.rows) for unit in self.units()]
        if not is_assembled(self.complete_path, sources):
            assemble(self.complete_path, sources, (self.targets, self.rows), self.fingerprint, provenance())
        return True

    def _merge(self, k: int) -> bool:
        """Merge the candidates of every unit into the final file, then remove them."""
        if not self._is_merged():
            try:
                arrays = self._merged_candidates(k)
            except MissingError:  # not computed yet; or merged, and then removed, by another worker
                arrays = None
            if arrays is not None:
                write_image(self.complete_path, arrays, self.fingerprint, provenance())
            elif not self._is_merged():
                return False
        self._remove_candidates()
        return True

    def _merged_candidates(self, k: int) -> dict[str, np.ndarray] | None:
        """The arrays of the final file, merged block by block; None where a candidate is missing."""
        if self._lacks_files():
            return None
        parts = []
        for block, targets in enumerate(self.blocks):
            best = TopK(len(targets), k)
            for unit in self.units_of(block):
                image = read_image(self.path(unit))
                require_same(image.path, image.fingerprint, self._fingerprint_of(unit))
                best.merge(TopK.restore(TopBottom.of(image.arrays), k))
            parts.append(best.result().arrays())
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _lacks_files(self) -> bool:
        """Whether units are missing, by their names: nothing is read while other workers are not done."""
        shards = (self.layout.score_shards(self.estimator, self.split, block) for block in range(len(self.blocks)))
        return any(len(stored) < len(self.shards) for stored in shards)

    def _remove_candidates(self) -> None:
        """Remove what the merged file replaces; also what a killed worker, or one that came later, has left.

        Raises:
            ForeignError: a file has another fingerprint (and ``overwrite`` is not set).
        """
        sync_folder(self.complete_path.parent)  # the name of the merged file must be on disk first
        for block in self.layout.score_blocks(self.estimator, self.split):
            for shard in self.layout.score_shards(self.estimator, self.split, block):
                path = self.layout.scores_shard(self.estimator, self.split, block, shard)
                with suppress(DamagedError):
                    self._keep(path)
                remove(path)
        remove_empty_folders(self.layout.scores_folder(self.estimator, self.split))
