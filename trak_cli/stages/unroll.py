"""``trak unroll``: exact scores of chosen targets for one run, differentiated through all its training steps.

The units of work are blocks of targets, each of which takes one backward sweep, and the trainings without some samples that
check the scores. Workers share all of them, and a sweep saves its progress.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

from torch import Tensor

from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, Problem
from trak_cli.stages.index.split_sizes import lengths_recorded
from trak_cli.stages.inputs.device import refuse_device_map, set_up_device
from trak_cli.stages.inputs.worker import worker_share
from trak_cli.stages.scoring.score_notes import write_notes
from trak_cli.stages.scoring.score_store import ScoreFiles, ScoreUnit
from trak_cli.stages.training.trainer_run import Training
from trak_cli.stages.unrolling.directions import Direction, Directions, parameters_of, smoothness_warnings
from trak_cli.stages.unrolling.identity import run_fingerprint, scores_fingerprint, split_fingerprint
from trak_cli.stages.unrolling.removals import Removals
from trak_cli.stages.unrolling.replay import Replay, ReplayFiles, replayed, stored_comparison
from trak_cli.stages.unrolling.state_files import StateFiles
from trak_cli.stages.unrolling.summary import BlockCounts, Effort, UnrollSummary
from trak_cli.stages.unrolling.sweeps import Sweeps
from trak_cli.stages.unrolling.targets import TargetRows, choose_targets
from trak_cli.stop_signals import unit_of_work
from trak_cli.store.layout import Layout
from trak_cli.store.temp_files import sweep as sweep_temporaries
from trak_cli.types import TRAIN, Json, Reporter, plain


def unroll(loaded: Loaded, reporter: Reporter) -> UnrollSummary:
    """Compute the missing blocks of scores and the missing checks of this worker's share.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    config = loaded.config
    refuse_device_map(config, "unroll")
    device, _ = set_up_device(config.device, config.threads)
    training = Training(config, device)
    targets = choose_targets(config.unroll, training.splits)
    layout = Layout(Path(config.store))
    with lengths_recorded(layout, {TRAIN: training.rows, targets.split: targets.total}):
        return _Call(config, training, layout, targets, reporter, run_fingerprint(config, training.splits)).work()


@dataclass
class _Call:
    """One call of the command.

    Attributes:
        run: fingerprint of the run.
        effort: what was computed so far.
    """

    config: TrakConfig
    training: Training
    layout: Layout
    targets: TargetRows
    reporter: Reporter
    run: Json
    effort: Effort = field(default_factory=Effort)

    def work(self) -> UnrollSummary:
        outputs = split_fingerprint(self.run, self.targets, self.training.splits)
        scores = scores_fingerprint(self.run, outputs, self.targets)
        sweeps = Sweeps(self.config, self.layout, self.targets, scores, self.reporter)
        removals = Removals(self.config.unroll, self.training, self.layout, self.targets, outputs)
        directions = Directions(removals)
        share = worker_share(self.config.worker, self.reporter)
        with ExitStack() as stack:
            settled = sweeps.settled_block()
            replay = cache(lambda: self._replay(stack, settled))
            block = settled or replay().unrolling.block
            files = sweeps.files(block)
            present = files.require_ours()
            units = files.units()
            mine = share.of([*units, *removals.numbers, *directions.units])
            own = [unit for unit in mine if isinstance(unit, ScoreUnit)]
            for unit in own:
                if unit in present or files.is_done(unit):
                    sweeps.progress(files, unit).remove()
                else:
                    self._sweep(sweeps, files, unit, replay())
            if removals.numbers and replay.cache_info().currsize and not removals.is_stored(None):
                removals.write(None, replay().unrolling.model)
            trained = parameters_of(replay().unrolling.model) if directions.units and replay.cache_info().currsize else None
        self._check(removals, [unit for unit in mine if unit is None or isinstance(unit, int)])
        self._measure(directions, [unit for unit in mine if isinstance(unit, Direction)], trained)
        complete = files.complete()
        if complete:
            self._files.states.remove()
        sweep_temporaries(self.layout.unrolled(self.config.unroll.name, self.targets.split, ""))
        return self._summary(files, directions, len(own), complete)

    def _replay(self, stack: ExitStack, block: int | None) -> Replay:
        most = self.targets.count if block is None else block
        replay = stack.enter_context(replayed(self.config, self.training, most, self._files, self.reporter))
        if block is not None and (fits := replay.unrolling.block) < block:
            found = f"{block}, given or used by files in the store"
            expected = f"at most {fits} with unroll.memory_mb={self.config.unroll.memory_mb}"
            raise ConfigError(Problem("unroll.block", found, expected, "set a larger unroll.memory_mb, or a smaller block"))
        self.training.check_outputs(replay.unrolling.model, self.targets.split)
        self.effort = replace(self.effort, steps=replay.made, training_seconds=replay.seconds)
        return replay

    def _sweep(self, work: Sweeps, files: ScoreFiles, unit: ScoreUnit, replay: Replay) -> None:
        start = time.perf_counter()
        with unit_of_work():
            steps = work.compute(files, unit, replay, self.training.split(self.targets.split))
        seconds = self.effort.sweep_seconds + (time.perf_counter() - start) * replay.steps / steps
        sweeps, targets = self.effort.sweeps + 1, self.effort.targets + len(unit.targets)
        self.effort = replace(self.effort, sweeps=sweeps, targets=targets, sweep_seconds=seconds)

    def _check(self, removals: Removals, numbers: Sequence[int | None]) -> None:
        pending = [number for number in numbers if not removals.is_stored(number)]
        if not pending:
            return
        with self.reporter.meter("train without random samples", len(pending), "models") as meter:
            for number in pending:
                if not removals.is_stored(number):  # meanwhile by another worker
                    removals.train(number)
                    self.effort = replace(self.effort, removals=self.effort.removals + 1)
                meter.advance()

    def _measure(self, directions: Directions, units: Sequence[Direction], trained: list[Tensor] | None) -> None:
        pending = [unit for unit in units if not directions.is_stored(unit)]
        if not pending:
            return
        run = cache(lambda: trained or parameters_of(self.training.model(range(self.training.rows), self.run["seed"])))
        with self.reporter.meter("train in random directions", len(pending), "directions") as meter:
            for unit in pending:
                if not directions.is_stored(unit):
                    directions.measure(unit, run)
                    self.effort = replace(self.effort, directions=self.effort.directions + 1)
                meter.advance()

    @cached_property
    def _files(self) -> ReplayFiles:
        comparison = self.layout.unrolled(self.config.unroll.name, self.targets.split, "checkpoint.json")
        states = StateFiles(comparison.parent, self.run, 60 * self.config.unroll.save_minutes)
        return ReplayFiles(states, comparison)

    def _summary(self, files: ScoreFiles, directions: Directions, own: int, complete: bool) -> UnrollSummary:
        comparison = stored_comparison(self.config, self._files.comparison)
        smoothness = directions.removals.judge(files.complete_path) if complete else None
        metasmoothness = directions.mean() if complete else None
        warnings = [] if comparison is None else comparison.warnings
        if smoothness is not None and not smoothness.trusted:
            warnings.append(smoothness.verdict)
        warnings += smoothness_warnings(metasmoothness)
        unroll, split = self.config.unroll, self.targets.split
        if complete:
            report = {"smoothness": plain(smoothness), "removals": unroll.removals, "drop": unroll.drop}
            report |= {"metasmoothness": metasmoothness, "directions": unroll.directions}
            write_notes(self.layout, unroll.name, split, warnings, report)
        chosen = self.targets.chosen
        return UnrollSummary(
            store=self.layout.root,
            estimator=unroll.name,
            split=split,
            targets=None if chosen is None else list(chosen.rows),
            group=chosen is not None and chosen.group,
            rows=files.rows,
            seed=self.run["seed"],
            checkpoint="" if comparison is None else comparison.text,
            effort=replace(self.effort, peak_mb=getrusage(RUSAGE_SELF).ru_maxrss / 1024),
            blocks=BlockCounts(self.effort.sweeps, own - self.effort.sweeps, len(files.blocks) - own),
            complete=complete,
            smoothness=smoothness,
            metasmoothness=metasmoothness,
            warnings=warnings,
            path=files.complete_path,
        )
