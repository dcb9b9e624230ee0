"""Builds the gradient engines and the projection of a setup, and the featurizer that combines them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch

from trak_cli.gradients.contract import Engine, ModelOutput
from trak_cli.gradients.curvature.other_classes import OtherClasses
from trak_cli.gradients.engines.hooks.strategies import Strategies
from trak_cli.gradients.engines.other_outputs import OtherOutputs
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.engines.representation import RepresentationEngine
from trak_cli.gradients.options import REPRESENTATION
from trak_cli.gradients.parameters import select
from trak_cli.gradients.transforms.adam import ScaledEngine, Scales
from trak_cli.gradients.transforms.autocast import Autocast, with_autocast
from trak_cli.gradients.transforms.token_signs import SignedTokenSum
from trak_cli.projection.contract import ProjectionJob, Projector
from trak_cli.projection.placed import PlacedProjector
from trak_cli.projection.registry import make_projector
from trak_cli.stages.featurizing.featurizer import Featurizer, SecondPass
from trak_cli.stages.featurizing.setup import FeatureSetup, place_of
from trak_cli.stages.index.run_plan import RunPlan
from trak_cli.stages.inputs.checkpoints import Checkpoint


def make_featurizer(
    setup: FeatureSetup, plan: RunPlan, checkpoint: Checkpoint, scales_of: Callable[[Engine], Scales]
) -> Featurizer:
    """What makes features under a checkpoint, whose weights are in the model.

    Args:
        scales_of: the Adam scales, given the gradient engine; called only if ``setup.optimizer.scaled``.
    """
    engine = build_engine(setup, plan.engine, plan.strategies)
    second = build_second_pass(setup, plan, checkpoint)
    if setup.optimizer.scaled:
        scales = scales_of(engine)
        engine = ScaledEngine(engine, scales)
        second = None if second is None else replace(second, engine=ScaledEngine(second.engine, scales))
    projector = build_projector(setup, checkpoint)
    autocast = setup.function.narrowed if setup.uses_gradients and isinstance(setup.function, Autocast) else nullcontext
    unblended = setup.components.models.unblended
    observed = setup.model if unblended is None else unblended
    return Featurizer(observed, setup.task, engine, projector, setup.parameters, plan.microbatch, second, autocast)


def build_engine(setup: FeatureSetup, name: str, strategies: Strategies) -> Engine:
    """The engine ``name`` for the model output function; it reads representations if the setup does."""
    if name == REPRESENTATION:
        return _with_outputs(setup, RepresentationEngine(setup.model, setup.task, place_of(setup.gradients)), setup.task)
    return _gradient_engine(setup, name, strategies, setup.function)


def build_second_pass(setup: FeatureSetup, plan: RunPlan, checkpoint: Checkpoint) -> SecondPass | None:
    """The engine of the plan for per-token terms or other classes, with the random numbers of a checkpoint; None without."""
    if setup.curvature is None:
        return None
    output = (SignedTokenSum if setup.curvature == "terms" else OtherClasses)(setup.task, checkpoint.sha256)
    function = with_autocast(output, setup.model, setup.device, setup.gradients.autocast)
    return SecondPass(_gradient_engine(setup, plan.engine, plan.strategies, function), setup.curvature)


def build_projector(setup: FeatureSetup, checkpoint: Checkpoint) -> Projector:
    """The projection under a checkpoint."""
    job = ProjectionJob(setup.spec, checkpoint.sha256, setup.sizes, setup.device, setup.threads, setup.matrices)
    if not setup.components.models.placed:
        return make_projector(job, setup.kernel)

    def on(device: torch.device) -> Projector:
        return make_projector(replace(job, device=device), setup.kernel if device.type == setup.device.type else "auto")

    return PlacedProjector(on, setup.device)


def _gradient_engine(setup: FeatureSetup, name: str, strategies: Strategies, function: ModelOutput) -> Engine:
    selected = select(setup.model, setup.patterns.include, setup.patterns.exclude)
    return _with_outputs(setup, make_engine(name, setup.model, function, selected, strategies, setup.factoring), function)


def _with_outputs(setup: FeatureSetup, engine: Engine, function: ModelOutput) -> Engine:
    """The engine, with the outputs of the checkpoint if the weights in use are blended with fresh ones."""
    unblended = setup.components.models.unblended
    return engine if unblended is None else OtherOutputs(engine, unblended, function)
