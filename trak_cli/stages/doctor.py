"""``trak doctor``: what would go wrong, and what it would cost, before hours are spent. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trak_cli.config.load import Loaded
from trak_cli.errors import ConfigError, InputError, MachineError
from trak_cli.gradients.checks.outputs import check_reach, check_terms
from trak_cli.gradients.contract import Engine
from trak_cli.stages.diagnosis.advice import advice
from trak_cli.stages.diagnosis.checks import (
    SAMPLES,
    Check,
    Patient,
    alone_and_together,
    attempt,
    engine_and_loop,
    features_fit,
    finite,
    repeated,
)
from trak_cli.stages.diagnosis.costs import Costs, estimate
from trak_cli.stages.featurizing.adam_scales import make_scales
from trak_cli.stages.featurizing.checkpoint_cache import Contexts
from trak_cli.stages.featurizing.engine_selection import Bench, GradientPlan, plan_gradients
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.featurizing.fingerprint import features_fingerprint
from trak_cli.stages.featurizing.prepare import open_run
from trak_cli.stages.index.run_plan import read_plan
from trak_cli.stages.inputs.device import choose_device, device_name, use_threads
from trak_cli.stages.inputs.split import spread, validate
from trak_cli.store.layout import Layout
from trak_cli.types import Reporter


@dataclass(frozen=True)
class DoctorSummary:
    """What was found.

    Attributes:
        ok: every check holds.
        parameters, dim: p, the selected parameters, and k, the features they become.
        engine: the gradient engine that featurize would take; null where none takes the model.
        costs: null where the run would not get far enough to be timed.
        advice: flags that would help, most useful first.
    """

    ok: bool
    checks: list[Check]
    parameters: int
    dim: int
    engine: str | None
    device: str
    costs: Costs | None
    advice: list[str]


def doctor(loaded: Loaded, reporter: Reporter) -> DoctorSummary:
    """Examine the configured run on a handful of samples under its first checkpoint.

    Raises:
        ConfigError, InputError, MachineError: nothing could be examined: no model, no data, no checkpoint that fits.
    """
    config = loaded.config
    device = choose_device(config.device)
    use_threads(config.threads)
    checkpoints, splits, recipe = open_run(loaded, device)
    fingerprints = {one.name: features_fingerprint(recipe, one) for one in checkpoints[:1]}
    Contexts(Layout(Path(config.store)), recipe.parts, splits[0], fingerprints).bind(checkpoints[0], keep=False)
    rows = spread(splits[0].rows, SAMPLES)
    rows = rows if len(rows) > 1 else rows * 2  # so that there is a batch
    samples = splits[0].samples(rows)
    patient = Patient(recipe, splits[0], rows, samples, splits[0].batch(samples))
    bench = Bench(recipe, splits[0], partial(recipe.projector, checkpoints[0]))
    checks = [
        Check("checkpoints", True, f"{len(checkpoints)} that fit the model", "all of them", ""),
        *_by_autograd(patient),
    ]
    plan, costs = None, None
    if _all_hold(checks):
        plan, found = _plan(bench, Path(config.store), reporter)
        checks.append(found)
    if plan is not None:
        plain = featurizer = recipe.featurizer(plan.engine, plan.strategies, checkpoints[0], plan.microbatch)
        if recipe.scaled:
            featurizer = plain.scaled(make_scales(recipe, plain, splits[0], rows))
        checks += _by_engine(patient, plain.engine, featurizer, config.features.dtype)
        if _all_hold(checks):
            moments = partial(make_scales, recipe, plain, splits[0]) if recipe.scaled else None
            costs = estimate(config, featurizer, splits, len(checkpoints), recipe.spec.dim, moments)
            checks.append(_room(costs))
    tips = advice(config, device, plan, costs)
    name = plan.engine if plan else None
    return DoctorSummary(_all_hold(checks), checks, recipe.parameters, recipe.spec.dim, name, device_name(device), costs, tips)


def _accepted(patient: Patient) -> Check:
    """The task takes these samples."""
    validate(patient.recipe.parts.task, patient.recipe.parts.model, patient.batch, patient.split.name, patient.rows)
    return Check("samples", True, f"{len(patient.samples)} that the task takes", "all of them", "")


def _reached(patient: Patient) -> Check:
    """Autograd finds a way from the output to the selected parameters."""
    check_reach(patient.model, patient.function, patient.split.batch(patient.samples[:1]), patient.selected)
    return Check("gradients", True, f"reach some of {len(patient.selected)} parameter tensors", "some", "")


def _summed(patient: Patient) -> Check:
    """The terms that the task tells are those whose sum it gives as the output."""
    check_terms(patient.model, patient.recipe.parts.task, patient.batch)
    return Check("terms", True, "add up to the output", "that they do", "")


def _plan(bench: Bench, store: Path, reporter: Reporter) -> tuple[GradientPlan | None, Check]:
    """The store's own plan where there is one, else what featurize would settle on."""
    stored = read_plan(Layout(store))
    if stored is not None:
        plan = GradientPlan(stored.engine, stored.microbatch, stored.strategies, [])
        return plan, Check("gradient engine", True, f"{plan.engine}, from the plan in the store", "an engine", "")
    try:
        plan = plan_gradients(bench, reporter)
    except (InputError, ConfigError, MachineError) as error:
        problem = error.problems[0]
        return None, Check("gradient engine", False, f"{problem.where}: {problem.found}", problem.expected, problem.remedy)
    return plan, Check("gradient engine", True, f"{plan.engine}, {plan.microbatch} samples at a time", "an engine", "")


def _by_autograd(patient: Patient) -> list[Check]:
    """What plain autograd tells; the first checks that fail make the later ones pointless. Representations need no gradient."""
    found = [attempt("samples", partial(_accepted, patient))]
    for name, check in (
        ("gradients", _reached),
        ("finite numbers", finite),
        ("the same output twice", repeated),
        ("alone = in a batch", alone_and_together),
    ):
        if _all_hold(found) and not (patient.recipe.represents and check is _reached):
            found.append(attempt(name, partial(check, patient)))
    if _all_hold(found) and patient.recipe.terms:
        found.append(attempt("terms", partial(_summed, patient)))
    return found


def _by_engine(patient: Patient, engine: Engine, featurizer: Featurizer, dtype: str) -> list[Check]:
    fit = attempt(f"features fit {dtype}", partial(features_fit, patient, featurizer.engine, featurizer.projector, dtype))
    if patient.recipe.represents:
        return [fit]
    return [attempt(f"engine {engine.name} = loop", partial(engine_and_loop, patient, engine)), fit]


def _all_hold(checks: list[Check]) -> bool:
    return all(check.held for check in checks)


def _room(costs: Costs) -> Check:
    return Check(
        "room on disk",
        costs.disk <= costs.free_disk,
        f"{costs.free_disk / 2**30:.1f} GiB free",
        f"{costs.disk / 2**30:.2f} GiB for features, Gram matrices and scores",
        "set features.dtype=float16, score.top_k=100 or a smaller projection.dim, or put the store elsewhere",
    )
