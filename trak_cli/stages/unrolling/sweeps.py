"""Blocks of targets: how many are differentiated together, and the backward sweep of one block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trak_cli.config.schema import TrakConfig
from trak_cli.errors import StoreError
from trak_cli.plurals import counted
from trak_cli.stages.inputs.split import Split
from trak_cli.stages.scoring.score_store import ScoreFiles, ScoreUnit
from trak_cli.stages.unrolling.progress import SweepFiles
from trak_cli.stages.unrolling.replay import Replay
from trak_cli.stages.unrolling.targets import TargetRows
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_fingerprint
from trak_cli.types import Json, Reporter, Rows, shards_of

#: The key of a fingerprint with the number of targets of a block.
_BLOCK = "target_block"


@dataclass(frozen=True)
class Sweeps:
    """The scores of one call, block by block.

    Attributes:
        fingerprint: of the scores, without the number of targets of a block.
    """

    config: TrakConfig
    layout: Layout
    targets: TargetRows
    fingerprint: Json
    reporter: Reporter

    def settled_block(self) -> int | None:
        """Targets of a block: as configured, or as in files that are stored already; None if neither says so.

        Raises:
            StoreError: a stored file is damaged.
        """
        unroll = self.config.unroll
        if self.targets.count == 1:
            return 1
        if unroll.block is not None:
            return min(unroll.block, self.targets.count)
        for path in self._stored():
            try:
                found = read_fingerprint(path)
            except StoreError:
                if unroll.overwrite:
                    continue
                raise
            if not unroll.overwrite or _common(found) == _common(self.fingerprint):
                return int(found.get(_BLOCK, 1))
        return None

    def files(self, block: int) -> ScoreFiles:
        """The score files, with so many targets in a block."""
        return ScoreFiles(
            layout=self.layout,
            estimator=self.config.unroll.name,
            split=self.targets.split,
            top_k=None,
            blocks=list(shards_of(self.targets.count, block)),
            shards=[Rows(0, self.fingerprint["rows"])],
            fingerprint={**self.fingerprint, _BLOCK: block},
            overwrite=self.config.unroll.overwrite,
            keys=("unroll.name", "unroll.overwrite"),
        )

    def progress(self, files: ScoreFiles, unit: ScoreUnit) -> SweepFiles:
        """The files with the progress of a block's sweep."""
        fingerprint = {**files.fingerprint, "kind": "sweep", "block": unit.block}
        path, seconds = self._file(f"sweep_{unit.block:04}.json"), 60 * self.config.unroll.save_minutes
        return SweepFiles(path, fingerprint, len(unit.targets), seconds)

    def compute(self, files: ScoreFiles, unit: ScoreUnit, replay: Replay, split: Split) -> int:
        """Differentiate f of the targets of a block and store the scores; returns the number of steps made.

        Raises:
            InputError: f or a derivative is not finite, or an operation cannot be differentiated.
        """
        progress = self.progress(files, unit)
        targets = [self.targets.batches(split, position) for position in unit.targets]
        saved = progress.load(self.reporter)
        steps = replay.steps if saved is None else saved.step
        states = replay.unrolling.sweep(targets, start=saved)
        saved = None  # the sweep owns it
        derivative = None
        with self.reporter.meter(f"unroll {self.targets.split}, {self._named(unit)}", steps, "steps") as meter:
            for state in states:
                meter.advance()
                derivative = state.derivative
                if state.step:
                    progress.save_if_due(state)
        if derivative is None:
            raise ValueError("a run without steps")
        files.write(unit, [(unit.rows, derivative.numpy().astype(np.float32))])
        progress.remove()
        return steps

    def _named(self, unit: ScoreUnit) -> str:
        if self.targets.chosen is not None and self.targets.chosen.group:
            return f"mean over {counted(len(self.targets.rows), 'target')}"
        return f"targets {unit.targets.start + 1} to {unit.targets.stop} of {self.targets.count}"

    def _stored(self) -> Iterator[Path]:
        """Files whose fingerprints have the number of targets of a block."""
        name, split = self.config.unroll.name, self.targets.split
        complete = self.layout.scores(name, split), self.layout.scores_top(name, split)
        yield from (path for path in complete if path.exists())
        for block in self.layout.score_blocks(name, split):
            for shard in self.layout.score_shards(name, split, block):
                yield self.layout.scores_shard(name, split, block, shard)
        yield from sorted(self._file("").glob("sweep_*_*.h5"))

    def _file(self, name: str) -> Path:
        return self.layout.unrolled(self.config.unroll.name, self.targets.split, name)


def _common(fingerprint: Json) -> Json:
    """The part of a fingerprint that scores and the progress of sweeps have in common."""
    return {key: value for key, value in fingerprint.items() if key not in (_BLOCK, "kind", "block", "step", "target")}
