"""Selects the gradient engine, its microbatch and its strategies for the parameters, on a few samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch

from trak_cli.errors import ConfigError, InputError, MachineError, Problem, StoreError
from trak_cli.gradients.checks.agreement import check_agreement
from trak_cli.gradients.engines.hooks.engine import HooksEngine
from trak_cli.gradients.engines.hooks.strategies import Strategies, describe_strategies, materialized_parameters
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.options import ENGINES, REPRESENTATION
from trak_cli.gradients.tuning.clock import clock_of, timed
from trak_cli.gradients.tuning.forms import LEAST_SAMPLES, fastest_forms
from trak_cli.gradients.tuning.measure import EQUAL, SIZES, Candidate, Trial, choose, measure
from trak_cli.gradients.tuning.memory import GradientWork, choose_microbatch
from trak_cli.plurals import counted
from trak_cli.stages.featurizing.engines import build_engine, build_projector
from trak_cli.stages.featurizing.setup import FeatureSetup
from trak_cli.stages.index.run_plan import VERSION, RunPlan, read_plan, require_plan, rows_of_a_shard
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.microbatches import largest, typical
from trak_cli.stages.inputs.probes import Probes, choose_probes
from trak_cli.stages.inputs.split import Split
from trak_cli.stages.inputs.validation import validate_batch
from trak_cli.store.json_files import write_json_once
from trak_cli.store.layout import Layout
from trak_cli.types import Reporter
from trak_cli.user_errors import report_user_errors

#: Samples on which an engine is compared with the loop.
STRATEGY_SAMPLES = 3

#: Samples that are read to measure the time of reading.
READ_SAMPLES = 4

#: Samples of one forward pass, if only representations are computed.
REPRESENTATION_BATCH = 64


@dataclass(frozen=True)
class EngineSelector:
    """Selects the engine for a model with the weights of ``checkpoint``, on samples of ``train``.

    Attributes:
        samples: of the whole run, of all splits under all checkpoints.
        shard_rows: rows of a shard; None derives them from the measured time.
    """

    setup: FeatureSetup
    train: Split
    checkpoint: Checkpoint
    samples: int
    shard_rows: int | None
    reporter: Reporter

    def select(self) -> RunPlan:
        """The plan with the engine that the config names or, for ``auto``, with the fastest one that accepts this model.

        Raises:
            InputError, ConfigError, MachineError: the engine (for ``auto``, each engine) refuses the model, or memory is too
                small.
        """
        name = self.setup.gradients.engine
        if name != "auto":
            return self._named(name)
        trials, strategies_of = self.race(ENGINES, SIZES)
        best = choose(trials)
        self.reporter.log(
            f"gradients=auto selects {best.engine}, {counted(best.microbatch, 'sample')}"
            f" at a time; ms per sample: {_times(trials)} "
            f"(times within {EQUAL - 1:.0%} of the fastest count as equal; among these, hooks comes before vmap and loop)"
        )
        return self._planned(best.engine, best.microbatch, strategies_of[best.engine], trials)

    def _named(self, engine: str) -> RunPlan:
        """The plan with this engine, which is timed, on a few samples, only if the shard length depends on it."""
        if self.shard_rows is not None:
            strategies = self._strategies(engine)
            return RunPlan(engine, self._largest_microbatch(engine, strategies), self.shard_rows, strategies)
        trials, strategies_of = self.race((engine,), SIZES[:1])
        return self._planned(engine, self._largest_microbatch(engine, strategies_of[engine]), strategies_of[engine], trials)

    def _planned(self, engine: str, microbatch: int, strategies: Strategies, trials: Sequence[Trial]) -> RunPlan:
        """The plan with the length of a shard; without one in the config, a microbatch is at most a shard."""
        rows = self.shard_rows
        if rows is None:
            seconds = next(trial.seconds for trial in trials if trial.engine == engine)
            size = self.setup.gradients.microbatch
            rows = rows_of_a_shard(
                seconds * (1 + (self.setup.curvature is not None)) + self._reading(), size or 1, self.train.rows
            )
            microbatch = size or min(microbatch, rows)
        return RunPlan(engine, microbatch, rows, strategies, [asdict(trial) for trial in trials])

    def _reading(self) -> float:
        """Seconds that reading and collating a sample takes."""
        rows = self._probes.rows[:READ_SAMPLES]
        elapsed, _ = timed(lambda: self.train.take(rows), clock_of(self.setup.device.type))
        return elapsed / len(rows)

    def race(self, engines: Sequence[str], sizes: Sequence[int]) -> tuple[list[Trial], Mapping[str, Strategies]]:
        """Measurements of engines, fastest first, and their strategies.

        Args:
            sizes: the microbatches to try, unless the config sets one.

        Raises:
            InputError, ConfigError, MachineError: each engine refuses the model, or memory is too small.
        """
        batch_of_size = lru_cache(maxsize=1)(self._typical_batch)
        candidates: list[Candidate] = []
        strategies_of: dict[str, Strategies] = {}
        for engine in engines:
            try:
                with report_user_errors(f"gradients={engine}", library=True):
                    strategies_of[engine] = self._strategies(engine)
                    work = self._timed_work(engine, strategies_of[engine], batch_of_size)
                    work(1)
                    limit = self._largest_microbatch(engine, strategies_of[engine])
                candidates.append(Candidate(engine, limit, work))
            except (InputError, ConfigError, MachineError) as error:
                if engine == engines[-1] and not candidates:
                    raise
                self.reporter.log(f"gradients={engine} does not accept this model: {error.problems[0].found}")
        size = self.setup.gradients.microbatch

        def refused(engine: str, samples: int, error: InputError | MachineError) -> None:
            self.reporter.log(
                f"gradients={engine} does not accept {counted(samples, 'sample')} at a time: {error.problems[0].found}"
            )

        clock = clock_of(self.setup.device.type)
        return measure(candidates, (size,) if size else sizes, clock, refused, self.samples), strategies_of

    def _strategies(self, engine: str) -> Strategies:
        """The strategy of each parameter, after comparing the engine with the loop.

        Raises:
            InputError: the engine gives other gradients than the loop.
        """
        if engine not in ("hooks", "vmap"):
            return {}
        setup = self.setup
        if engine == "vmap":
            batch = self._compared(min(STRATEGY_SAMPLES, self._largest_microbatch(engine, {})))
            check_agreement(build_engine(setup, engine, {}), setup.model, setup.function, setup.selected, batch)
            return {}
        batch = self._compared(STRATEGY_SAMPLES)
        strategies = dict(find_strategies(setup.model, setup.function, setup.selected, batch, setup.factoring))
        if not setup.gradients.microbatch and self.samples >= LEAST_SAMPLES:
            built = HooksEngine(setup.model, setup.function, setup.selected, strategies, setup.factoring)
            size = min(SIZES[0], self._largest_microbatch(engine, strategies))
            strategies |= fastest_forms(built, self._typical_batch(size), clock_of(setup.device.type))
        self.reporter.log(f"gradients=hooks: {describe_strategies(setup.selected, strategies)}")
        return strategies

    @cached_property
    def _probes(self) -> Probes:
        return choose_probes(self.train)

    def _compared(self, count: int) -> Any:
        """A batch of at most ``count`` samples that differ in size, on which an engine is compared with the loop."""
        return self.train.batch(self._probes.samples[:count], self._probes.rows[:count])

    def _largest_microbatch(self, engine: str, strategies: Strategies) -> int:
        """The microbatch of the config, else the largest that fits into ``gradients.memory_mb``."""
        setup = self.setup
        if setup.gradients.microbatch:
            return setup.gradients.microbatch
        if engine == REPRESENTATION:
            return REPRESENTATION_BATCH
        sample = self.train.batch(largest(self.train, 1).samples)
        materialized = materialized_parameters(setup.selected, strategies)
        work = GradientWork(setup.model, setup.function, sample, setup.selected, materialized)
        return choose_microbatch(engine, work, setup.gradients.memory_mb)

    def _typical_batch(self, size: int) -> Any:
        """A batch of this size that takes a typical time.

        Raises:
            InputError: the task refuses a sample of it.
        """
        microbatch = typical(self.train, size)
        batch = self.train.batch(microbatch.samples)
        validate_batch(self.setup.task, self.setup.model, batch, self.train, microbatch.rows)
        return batch

    def _timed_work(
        self, engine: str, strategies: Strategies, batch_of_size: Callable[[int], Any]
    ) -> Callable[[int], torch.Tensor]:
        """A function that projects the gradients of a microbatch of a given size, as the stage does."""
        gradients, projector = build_engine(self.setup, engine, strategies), build_projector(self.setup, self.checkpoint)

        def work(size: int) -> torch.Tensor:
            with report_user_errors(f"gradients={engine}", library=True):
                return projector.project(gradients.per_sample(batch_of_size(size)).blocks).cpu()

        return work


def _times(trials: Sequence[Trial]) -> str:
    """The time of each engine with its fastest microbatch, in ms per sample."""
    fastest = {trial.engine: trial for trial in reversed(trials)}
    return ", ".join(f"{engine} {1000 * fastest[engine].seconds:.3g}" for engine in ENGINES if engine in fastest)


def settle_plan(layout: Layout, selector: EngineSelector) -> RunPlan:
    """The run plan of the store. The first worker selects an engine and stores the plan.

    Raises:
        StoreError: the config asks for something else than the stored plan.
    """
    plan = read_plan(layout)
    if plan is None:
        write_json_once(layout.plan, {"version": VERSION, **asdict(selector.select())})
        plan = require_plan(layout)  # another worker may have stored its plan first; it holds for all
    gradients = selector.setup.gradients
    choices: dict[str, tuple[object, object]] = {
        "gradients.engine": (plan.engine, plan.engine if gradients.engine == "auto" else gradients.engine),
        "gradients.microbatch": (plan.microbatch, gradients.microbatch or plan.microbatch),
        "features.shard_rows": (plan.shard_rows, selector.shard_rows or plan.shard_rows),
    }
    StoreError.raise_for(
        Problem(key, f"{configured} in the config", f"{planned}, as in {layout.plan}", f"use {key}={planned}, or another store")
        for key, (planned, configured) in choices.items()
        if planned != configured
    )
    return plan
