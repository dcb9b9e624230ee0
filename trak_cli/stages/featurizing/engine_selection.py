"""How gradients will be computed: the engine, its microbatch and its ways through the model, settled on a few samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any

import torch

from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, InputError, MachineError, Problem, StoreError
from trak_cli.gradients.checks.agreement import check_agreement
from trak_cli.gradients.engines.hooks.strategies import Strategies, describe_strategies, materialized_parameters
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.options import ENGINES, REPRESENTATION
from trak_cli.gradients.tuning.measure import SIZES, Candidate, Trial, measure
from trak_cli.gradients.tuning.memory import GradientWork, choose_microbatch
from trak_cli.projection.contract import Projector
from trak_cli.stages.featurizing.setup import Recipe
from trak_cli.stages.index.run_plan import VERSION, RunPlan, read_plan, require_plan
from trak_cli.stages.inputs.split import Split, validate
from trak_cli.store.json_files import write_json_once
from trak_cli.store.layout import Layout
from trak_cli.types import Reporter, Rows

#: Samples on which an engine is compared with the loop.
STRATEGY_SAMPLES = 3


#: Samples of one forward pass, where nothing but representations is wanted.
REPRESENTATION_BATCH = 64


@dataclass(frozen=True)
class GradientPlan:
    """Attributes:
    engine: name of the engine.
    microbatch: samples at a time.
    strategies: how the engine computes the gradient of each parameter (``hooks`` only).
    trials: what was measured to choose it, the fastest first; empty where the config chose.
    """

    engine: str
    microbatch: int
    strategies: Strategies
    trials: list[Trial]


@dataclass(frozen=True)
class Bench:
    """All that gradients are computed from: enough to try an engine."""

    recipe: Recipe
    split: Split
    projector: Callable[[], Projector]


def plan_gradients(bench: Bench, reporter: Reporter) -> GradientPlan:
    """The engine that the config names, or the fastest one that takes this model.

    Raises:
        InputError, ConfigError, MachineError: the engine (or every engine) refuses the model, or memory is too small.
    """
    asked = bench.recipe.config.gradients.engine
    if asked != "auto":
        strategies = _strategies(bench, asked, reporter)
        return GradientPlan(asked, _limit(bench, asked, strategies), strategies, [])
    typical = lru_cache(maxsize=1)(partial(_typical, bench))
    candidates, strategies_of, refused = [], {}, {}
    for engine in ENGINES:
        try:
            strategies_of[engine] = _strategies(bench, engine, reporter)
            work = _work(bench, engine, strategies_of[engine], typical)
            work(1)
            candidates.append(Candidate(engine, _limit(bench, engine, strategies_of[engine]), work))
        except (InputError, ConfigError, MachineError) as error:
            refused[engine] = error
            reporter.log(f"gradients={engine} does not take this model: {error.problems[0].found}")
    if not candidates:
        raise refused[ENGINES[-1]]
    return _fastest(bench, candidates, strategies_of, reporter)


def _fastest(
    bench: Bench, candidates: list[Candidate], strategies_of: Mapping[str, Strategies], reporter: Reporter
) -> GradientPlan:
    size = bench.recipe.config.gradients.microbatch

    def refused(engine: str, samples: int, error: InputError | MachineError) -> None:
        reporter.log(f"gradients={engine} does not take {samples} samples at a time: {error.problems[0].found}")

    trials = measure(candidates, sizes=(size,) if size else SIZES, refused=refused)
    best = trials[0]
    fastest = {one.engine: one for one in reversed(trials)}
    told = ", ".join(
        f"{fastest[engine].engine} {1000 * fastest[engine].seconds:.3g}" for engine in ENGINES if engine in fastest
    )
    reporter.log(f"gradients=auto takes {best.engine}, {best.microbatch} samples at a time; ms for each sample: {told}")
    return GradientPlan(best.engine, best.microbatch, strategies_of[best.engine], trials)


def _strategies(bench: Bench, engine: str, reporter: Reporter) -> Strategies:
    """How an engine computes the gradient of each parameter, compared with the loop on the first samples.

    Raises:
        InputError: the engine's outputs or gradients differ from the loop's.
    """
    if engine not in ("hooks", "vmap"):
        return {}
    split, recipe = bench.split, bench.recipe
    model, function, selected = recipe.parts.model, recipe.function, recipe.selected
    if engine == "vmap":
        count = min(STRATEGY_SAMPLES, split.rows, _limit(bench, engine, {}))
        check_agreement(recipe.engine(engine, {}), model, function, selected, split.batch(split.samples(Rows(0, count))))
        return {}
    batch = split.batch(split.samples(Rows(0, min(STRATEGY_SAMPLES, split.rows))))
    strategies = find_strategies(model, function, selected, batch, recipe.matrices)
    reporter.log(f"gradients=hooks: {describe_strategies(selected, strategies)}")
    return strategies


def _limit(bench: Bench, engine: str, strategies: Strategies) -> int:
    """The microbatch of the config, or the largest that fits into the memory of the config."""
    recipe, split = bench.recipe, bench.split
    gradients = recipe.config.gradients
    if gradients.microbatch:
        return gradients.microbatch
    if engine == REPRESENTATION:
        return REPRESENTATION_BATCH
    sample = split.batch(split.largest(1).samples)
    parameters = recipe.selected
    materialized = materialized_parameters(parameters, strategies)
    work = GradientWork(recipe.parts.model, recipe.function, sample, parameters, materialized)
    return choose_microbatch(engine, work, gradients.memory_mb)


def _typical(bench: Bench, size: int) -> Any:
    """A batch that tells how long those of this size take.

    Raises:
        InputError: the task refuses a sample of it.
    """
    found = bench.split.typical(size)
    batch = bench.split.batch(found.samples)
    validate(bench.recipe.parts.task, bench.recipe.parts.model, batch, bench.split.name, found.rows)
    return batch


def _work(bench: Bench, engine: str, strategies: Strategies, typical: Callable[[int], Any]) -> Callable[[int], torch.Tensor]:
    """Projects the gradients of a microbatch of that size such as the stage will compute."""
    made, projector = bench.recipe.engine(engine, strategies), bench.projector()

    def work(size: int) -> torch.Tensor:
        return projector.project(made.per_sample(typical(size)).blocks).cpu()

    return work


def settle_plan(layout: Layout, config: TrakConfig, find: Callable[[], GradientPlan]) -> RunPlan:
    """The store's plan; on the first call what ``find`` finds. What was measured for it is noted beside it.

    Raises:
        StoreError: the config asks for something else than the store was begun with.
    """
    plan = read_plan(layout)
    if plan is None:
        found = find()
        plan = RunPlan(found.engine, found.microbatch, config.features.shard_rows, dict(found.strategies))
        measured = [asdict(trial) for trial in found.trials]
        write_json_once(layout.plan, {"version": VERSION, **asdict(plan), "measured": measured})
        plan = require_plan(layout)  # another worker may have been first: its plan is everybody's
    asked: dict[str, tuple[object, object]] = {
        "gradients.engine": (plan.engine, plan.engine if config.gradients.engine == "auto" else config.gradients.engine),
        "gradients.microbatch": (plan.microbatch, config.gradients.microbatch or plan.microbatch),
        "features.shard_rows": (plan.shard_rows, config.features.shard_rows),
    }
    problems = [
        Problem(
            key,
            f"{wanted} in the config",
            f"{planned}, with which {layout.plan} was begun",
            f"use {key}={planned}, or another store",
        )
        for key, (planned, wanted) in asked.items()
        if planned != wanted
    ]
    if problems:
        raise StoreError(problems)
    return plan
