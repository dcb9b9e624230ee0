"""``trak doctor``: what would go wrong in a run, and what it would cost. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trak_cli.config.load import Loaded
from trak_cli.gradients.contract import Engine
from trak_cli.plugins.checkpoints.member import members_in_words
from trak_cli.plurals import counted
from trak_cli.stages.diagnosis.advice import advice
from trak_cli.stages.diagnosis.checks import Check, attempt, engine_and_loop, features_fit, has_tokens, passed, single_start
from trak_cli.stages.diagnosis.costs import Costs, estimate
from trak_cli.stages.diagnosis.model_quality import SplitQuality, model_quality, quality_warnings
from trak_cli.stages.featurizing.adam_scales import make_scales, scales_of
from trak_cli.stages.featurizing.engine_selection import EngineSelector
from trak_cli.stages.featurizing.engines import build_engine, make_featurizer
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.featurizing.fingerprint import features_fingerprint
from trak_cli.stages.featurizing.model_checks import model_checks
from trak_cli.stages.featurizing.setup import FeatureSetup, make_setup
from trak_cli.stages.featurizing.statistics_cache import StatisticsCache
from trak_cli.stages.featurizing.task_context import bind_context
from trak_cli.stages.index.run_plan import RunPlan, read_plan
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.probes import Probes, choose_probes
from trak_cli.stages.inputs.run_inputs import open_inputs
from trak_cli.store.layout import Layout
from trak_cli.types import Reporter
from trak_cli.user_errors import report_user_errors


@dataclass(frozen=True)
class DoctorSummary:
    """The findings.

    Attributes:
        ok: every check holds.
        parameters, dim: p, the number of selected coordinates, and k, the number of features.
        engine: the gradient engine that featurize would use; null if none accepts the model.
        quality: how good the model is on each split; empty if a check failed.
        warnings: what may be wrong, although every check holds.
        costs: null if a check failed, so that the run could not be timed.
        advice: settings that would help, most useful first.
    """

    ok: bool
    checks: list[Check]
    parameters: int
    dim: int
    engine: str | None
    device: str
    quality: list[SplitQuality]
    warnings: list[str]
    costs: Costs | None
    advice: list[str]


def doctor(loaded: Loaded, reporter: Reporter) -> DoctorSummary:
    """Check the configured run on a few samples under its first checkpoint.

    Raises:
        ConfigError, InputError, MachineError: nothing can be checked: no model, no data, or no checkpoint that fits.
    """
    config, layout = loaded.config, Layout(Path(loaded.config.store))
    inputs = open_inputs(config, loaded.base)
    first = inputs.checkpoints[0]
    with report_user_errors("model", library=True):
        setup = make_setup(config, inputs)
        cache = StatisticsCache(layout, inputs.train, {first.name: features_fingerprint(config, setup, first)})
        bind_context(cache, inputs.components, first, store=False)
    probes = [choose_probes(split) for split in inputs.splits]
    checks = [
        Check("checkpoints", True, f"{_counted(inputs.checkpoints)} that fit the model", "all of them", ""),
        *_optimizer_check(setup),
        *_model_checks(setup, probes, reporter),
    ]
    plan, costs = None, None
    if _all_hold(checks):
        selector = EngineSelector(setup, inputs.train, first, inputs.samples, config.features.shard_rows, reporter)
        plan, check = _plan(layout, selector)
        checks.append(check)
    if plan is not None:
        scales = partial(make_scales, setup, inputs.train, plan.microbatch)
        estimated_scales = partial(scales, probes[0].rows)
        featurizer = make_featurizer(setup, plan, first, partial(scales_of, setup, first, estimated_scales))
        engine = build_engine(setup, plan.engine, plan.strategies)
        checks += _engine_checks(setup, probes[0], engine, featurizer, config.features.dtype)
        if _all_hold(checks):
            estimated = setup.optimizer.scaled and not setup.optimizer.states
            moments = partial(scales, engine=engine) if estimated else None
            costs = estimate(config, inputs, featurizer, plan, moments)
            checks.append(_room_on_disk(costs))
    qualities = model_quality(setup, probes) if _all_hold(checks) else []
    tips = [*filter(None, [setup.optimizer.question]), *advice(config, inputs.device, plan, costs)]
    return DoctorSummary(
        _all_hold(checks),
        checks,
        setup.parameters,
        setup.spec.dim,
        plan.engine if plan else None,
        inputs.device_name,
        qualities,
        quality_warnings(qualities) if qualities else [],
        costs,
        tips,
    )


def _counted(checkpoints: Sequence[Checkpoint]) -> str:
    """How many files, and how many members derived from them."""
    files = sum(checkpoint.member is None for checkpoint in checkpoints)
    members = members_in_words([checkpoint.name for checkpoint in checkpoints])
    return f"{files}, and {members}," if members else str(files)


def _optimizer_check(setup: FeatureSetup) -> list[Check]:
    """A line about the optimizer; none if the config names it, or if the advice already asks for it."""
    choice = setup.optimizer
    return [Check("optimizer", True, choice.line, "its kind", "")] if choice.line and not choice.question else []


def _plan(layout: Layout, selector: EngineSelector) -> tuple[RunPlan | None, Check]:
    """The plan in the store if there is one, else the one that featurize would make."""
    stored = read_plan(layout)
    if stored is not None:
        return stored, Check("gradient engine", True, f"{stored.engine}, from the plan in the store", "an engine", "")
    plans: list[RunPlan] = []

    def select() -> Check:
        plans.append(plan := selector.select())
        return Check("gradient engine", True, f"{plan.engine}, {counted(plan.microbatch, 'sample')} at a time", "an engine", "")

    check = attempt("gradient engine", select)
    return next(iter(plans), None), check


def _model_checks(setup: FeatureSetup, probes: Sequence[Probes], reporter: Reporter) -> list[Check]:
    """The checks that need no engine, up to the first that fails."""
    shared = model_checks(setup, probes, reporter.log)
    checks: dict[str, Callable[[], Check]] = {check.name: partial(passed, check) for check in shared}
    if any(map(has_tokens, probes)):
        checks["start token"] = partial(single_start, setup, probes)
    results: list[Check] = []
    for name, check in checks.items():
        if _all_hold(results):
            results.append(attempt(name, check))
    return results


def _engine_checks(setup: FeatureSetup, probes: Probes, engine: Engine, featurizer: Featurizer, dtype: str) -> list[Check]:
    """The checks of the engine and of what it makes. ``engine`` gives gradients without Adam's scales."""
    checks: list[Check] = []
    if setup.uses_gradients:
        checks.append(attempt(f"engine {engine.name} = loop", partial(engine_and_loop, setup, probes, engine)))
    fit = partial(features_fit, setup, probes, featurizer.engine, featurizer.projector, dtype)
    return [*checks, attempt(f"features fit {dtype}", fit)]


def _room_on_disk(costs: Costs) -> Check:
    return Check(
        "space on disk",
        costs.disk <= costs.free_disk,
        f"{costs.free_disk / 2**30:.1f} GiB free",
        f"{costs.disk / 2**30:.2f} GiB for features, Gram matrices and scores",
        "set features.dtype=float16, score.top_k=100 or a smaller projection.dim, or put the store elsewhere",
    )


def _all_hold(checks: list[Check]) -> bool:
    return all(check.held for check in checks)
