"""What features are made of: the tensors whose coordinates are projected, the model output function, and the projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trak_cli.config.schema import GradientsConfig, ParametersConfig, ProjectionConfig, TrakConfig
from trak_cli.errors import ConfigError, Problem
from trak_cli.gradients.contract import ModelOutput, coordinates
from trak_cli.gradients.engines.hooks.strategies import outer_products
from trak_cli.gradients.engines.representation import Place, represented
from trak_cli.gradients.factoring import Factoring
from trak_cli.gradients.options import REPRESENTATION
from trak_cli.gradients.parameters import select
from trak_cli.gradients.transforms.autocast import with_autocast
from trak_cli.projection.registry import most_terms
from trak_cli.projection.spec import KINDS, Kind, ProjectionSpec, spec_problems
from trak_cli.stages.featurizing.optimizer_choice import OptimizerChoice, choose_optimizer
from trak_cli.stages.inputs.plugins import Components
from trak_cli.stages.inputs.run_inputs import RunInputs
from trak_cli.tasks import Task

#: Canonical parameter name -> (m, n) of a weight whose gradient is multiplied from both sides.
Matrices = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class FeatureSetup:
    """How features are made, for any weights in the model.

    Attributes:
        gradients, patterns: the keys ``gradients`` and ``parameters`` of the config.
        components: the plugins.
        function: the task, under the autocast of the config.
        representation: name -> the representation of one sample; None if features are projected gradients.
        spec: the projection.
        kernel, threads: which code multiplies by the random matrix, and on how many CPU threads.
        matrices: the weights that the projection multiplies from both sides (kind ``factored`` only).
        curvature: what training samples get besides features, from a second pass with random numbers: "terms" (their per-token
            terms), "classes" (their other classes) or nothing.
        optimizer: whether gradients are scaled by second moments of the optimizer, and by which.
    """

    gradients: GradientsConfig
    patterns: ParametersConfig
    components: Components
    device: torch.device
    function: ModelOutput
    representation: Mapping[str, Tensor] | None
    spec: ProjectionSpec
    kernel: str
    threads: int | None
    matrices: Matrices
    curvature: str | None
    optimizer: OptimizerChoice

    @property
    def model(self) -> nn.Module:
        """The model in use; another one after another checkpoint is loaded."""
        return self.components.model

    @property
    def selected(self) -> Mapping[str, Tensor]:
        """The tensors whose coordinates are projected: parameters of the model in use, or the representation of one sample."""
        if self.representation is not None:
            return self.representation
        return select(self.model, self.patterns.include, self.patterns.exclude)

    @property
    def task(self) -> Task:
        """The task, without autocast."""
        return self.components.task

    @property
    def uses_gradients(self) -> bool:
        """Whether features are projected gradients; otherwise they are projected representations."""
        return self.gradients.engine != REPRESENTATION

    @property
    def factoring(self) -> Factoring:
        """Which gradients ``hooks`` gives as factors. Adam's scales multiply single entries, so they need dense gradients."""
        terms = 0 if self.optimizer.scaled else most_terms(self.spec, self.device.type, self.kernel)
        return Factoring(self.matrices, terms)

    @property
    def sizes(self) -> dict[str, int]:
        """Coordinates of each selected tensor."""
        return {name: coordinates(tensor) for name, tensor in self.selected.items()}

    @property
    def parameters(self) -> int:
        """p, the number of coordinates."""
        return sum(self.sizes.values())


def make_setup(config: TrakConfig, inputs: RunInputs) -> FeatureSetup:
    """How the config makes features of this model.

    Raises:
        ConfigError, InputError, MachineError: the config asks for what this model, data or machine does not have.
    """
    model, task = inputs.components.model, inputs.components.task
    if config.gradients.engine == REPRESENTATION:
        selected = represented(model, task, inputs.train.take([0]), place_of(config.gradients))
    else:
        selected = select(model, config.parameters.include, config.parameters.exclude)
    spec = projection_spec(config.projection, sum(map(coordinates, selected.values())))
    return FeatureSetup(
        gradients=config.gradients,
        patterns=config.parameters,
        components=inputs.components,
        device=inputs.device,
        function=with_autocast(task, model, inputs.device, config.gradients.autocast),
        representation=None if config.gradients.engine != REPRESENTATION else selected,
        spec=spec,
        kernel=config.projection.kernel,
        threads=config.threads,
        matrices=factored_matrices(spec, model, selected),
        curvature=_curvature(config.gradients, inputs),
        optimizer=choose_optimizer(config, inputs, selected),
    )


def place_of(gradients: GradientsConfig) -> Place:
    """Where the representation is read; without ``gradients.module``, at the output of the model."""
    return Place(gradients.module or "", gradients.side)


def _curvature(gradients: GradientsConfig, inputs: RunInputs) -> str | None:
    """Which features of the curvature are made: ``gradients.terms`` or ``gradients.classes``, by default what the task has.

    Raises:
        ConfigError: the config wants terms or classes of a task that has none.
    """
    task = inputs.components.task
    if gradients.terms and not task.has_terms():
        found = f"true, but the task {type(task).__name__} defines no per-token terms"
        expected = "a task with terms: a language model, or a task of your own that defines terms"
        raise ConfigError(Problem("gradients.terms", found, expected, "remove gradients.terms, or define terms in the task"))
    if gradients.engine == REPRESENTATION:
        return None
    terms = task.has_terms()
    several = gradients.classes is not False and not terms and task.has_classes() and _classes(inputs) > 2
    if gradients.classes and not several:
        found = f"true, but the task {type(task).__name__} has no labels among three or more classes"
        expected = "a classification with three classes or more"
        raise ConfigError(Problem("gradients.classes", found, expected, "remove gradients.classes"))
    if terms:
        return None if gradients.terms is False else "terms"
    return "classes" if several else None


def _classes(inputs: RunInputs) -> int:
    """The number of classes; 0 if the model cannot be run, which the checks of the model report."""
    try:
        # With gradients, as in every other call: what a model caches in its first call must not lack its graph.
        logits, _ = inputs.components.task.predictions(inputs.components.model, inputs.train.take([0]))
        return int(logits.shape[-1])
    except Exception:
        return 0


def projection_spec(projection: ProjectionConfig, parameters: int) -> ProjectionSpec:
    """The projection of the config. Kind ``none`` keeps all coordinates; fields that a kind does not use have one value.

    Raises:
        ConfigError: a dimension that this kind cannot have.
    """
    spec, kind = projection.spec, KINDS.get(projection.kind, Kind())
    if not kind.sized:
        spec = replace(spec, dim=parameters)
    if not kind.sparse:
        spec = replace(spec, nonzeros=1)
    if projection.kind != "factored":
        spec = replace(spec, factors=None)
    ConfigError.raise_for(spec_problems(spec))
    return spec


def factored_matrices(spec: ProjectionSpec, model: nn.Module, selected: Mapping[str, Tensor]) -> Matrices:
    """The weights that kind ``factored`` multiplies from both sides; none for the other kinds.

    Raises:
        ConfigError: the kind is ``factored``, and no selected weight can be multiplied so.
    """
    if spec.kind != "factored":
        return {}
    matrices = outer_products(model, selected)
    if not matrices:
        found = "factored, for a model with no selected weight of a linear or convolutional layer"
        remedy = "use projection=sjlt, or select such weights with parameters.include"
        raise ConfigError(Problem("projection.kind", found, "weights whose gradients are sums of outer products", remedy))
    return matrices
