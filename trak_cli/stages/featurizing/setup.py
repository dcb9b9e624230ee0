"""How features are made, whatever weights the model holds: of which coordinates, of which function, by which projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, Problem
from trak_cli.gradients.contract import Engine, ModelOutput
from trak_cli.gradients.engines.hooks.factors import outer_products
from trak_cli.gradients.engines.hooks.strategies import Strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.engines.representation import Place, RepresentationEngine, represented
from trak_cli.gradients.options import REPRESENTATION
from trak_cli.gradients.parameters import select
from trak_cli.gradients.transforms.autocast import with_autocast
from trak_cli.gradients.transforms.token_signs import SignedTokenSum
from trak_cli.projection.contract import ProjectionJob, Projector
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import KINDS, Kind, ProjectionSpec, spec_problems
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.inputs.plugins import Checkpoint, Parts
from trak_cli.stages.inputs.split import Split
from trak_cli.types import Rows

#: Trainers of this program that are Adam; of other ones, gradients.optimizer has to tell.
ADAM_TRAINERS = ("trak_cli.plugins.AdamWTrainer", "trak_cli.plugins.adamw.AdamWTrainer")


@dataclass(frozen=True)
class Recipe:
    """Attributes:
    function: the task, under the autocast of the config.
    selected: the tensors whose coordinates are projected: parameters, or one sample's representation.
    spec: the projection.
    matrices: the weights that it multiplies from both sides (kind ``factored`` only).
    terms: whether training samples get the features of their terms too, by a second pass with random signs.
    """

    config: TrakConfig
    parts: Parts
    device: torch.device
    function: ModelOutput
    selected: Mapping[str, torch.Tensor]
    spec: ProjectionSpec
    matrices: Matrices
    terms: bool = False

    @property
    def represents(self) -> bool:
        """Whether features are representations, which have no gradients."""
        return self.config.gradients.engine == REPRESENTATION

    @property
    def scaled(self) -> bool:
        """Whether gradients are scaled as Adam scales them: as the config says, or else its trainer; representations never."""
        by_trainer = "adam" if (self.config.trainer or {}).get("_target_") in ADAM_TRAINERS else "sgd"
        return not self.represents and (self.config.gradients.optimizer or by_trainer) == "adam"

    @property
    def sizes(self) -> dict[str, int]:
        """Coordinates of each selected tensor."""
        return {name: tensor.numel() for name, tensor in self.selected.items()}

    @property
    def parameters(self) -> int:
        """p, the number of coordinates."""
        return sum(self.sizes.values())

    def engine(self, name: str, strategies: Strategies) -> Engine:
        """The gradient engine of that name, on the model as it is."""
        if name == REPRESENTATION:
            return RepresentationEngine(self.parts.model, self.parts.task, _place(self.config))
        return self._engine(name, strategies, self.function)

    def signed(self, name: str, strategies: Strategies, checkpoint: Checkpoint) -> Engine | None:
        """The same engine for the terms with the signs of a checkpoint; None without terms."""
        if not self.terms:
            return None
        parts, autocast = self.parts, self.config.gradients.autocast
        function = with_autocast(SignedTokenSum(parts.task, checkpoint.sha256), parts.model, self.device, autocast)
        return self._engine(name, strategies, function)

    def _engine(self, name: str, strategies: Strategies, function: ModelOutput) -> Engine:
        model, parameters = self.parts.model, self.config.parameters
        selected = select(model, parameters.include, parameters.exclude)
        return make_engine(name, model, function, selected, strategies, self.matrices)

    def featurizer(self, engine: str, strategies: Strategies, checkpoint: Checkpoint, microbatch: int) -> Featurizer:
        """What turns rows into features, for a checkpoint whose weights are in the model."""
        parts = self.parts
        made, signed = self.engine(engine, strategies), self.signed(engine, strategies, checkpoint)
        return Featurizer(parts.model, parts.task, made, self.projector(checkpoint), self.parameters, microbatch, signed)

    def projector(self, checkpoint: Checkpoint) -> Projector:
        """The projection under a checkpoint."""
        job = ProjectionJob(self.spec, checkpoint.sha256, self.sizes, self.device, self.config.threads, self.matrices)
        return make_projector(job, self.config.projection.kernel)


def make_recipe(config: TrakConfig, parts: Parts, train: Split) -> Recipe:
    """The recipe of the config, for the model as it is.

    Raises:
        ConfigError, InputError, MachineError: the config asks for what this model, data or machine does not have.
    """
    selected = _selected(config, parts, train)
    spec = projection_spec(config, sum(tensor.numel() for tensor in selected.values()))
    function = with_autocast(parts.task, parts.model, train.device, config.gradients.autocast)
    matrices = matrices_of(spec, parts.model, selected)
    return Recipe(config, parts, train.device, function, selected, spec, matrices, _terms(config, parts))


def _terms(config: TrakConfig, parts: Parts) -> bool:
    """Whether there are terms and they are wanted."""
    asked, known = config.gradients.terms, parts.task.has_terms()
    if asked and not known:
        raise ConfigError(
            Problem(
                "gradients.terms",
                f"true, for the task {type(parts.task).__name__}, whose output is not known to be a sum",
                "a task with terms: a language model, or a task of your own that defines terms",
                "leave it out, or define terms in the task",
            )
        )
    return known and asked is not False and config.gradients.engine != REPRESENTATION


def _selected(config: TrakConfig, parts: Parts, train: Split) -> dict[str, torch.Tensor]:
    if config.gradients.engine == REPRESENTATION:
        single = train.batch(train.samples(Rows(0, 1)))
        return represented(parts.model, parts.task, single, _place(config))
    return select(parts.model, config.parameters.include, config.parameters.exclude)


def _place(config: TrakConfig) -> Place:
    """Where the representation is read; without a module, at the model's own output."""
    return Place(config.gradients.module or "", config.gradients.side)


#: Canonical parameter name -> (m, n) of a weight whose gradient is multiplied from both sides.
Matrices = Mapping[str, tuple[int, int]]


def projection_spec(config: TrakConfig, parameters: int) -> ProjectionSpec:
    """The projection of the config; kind ``none`` keeps all coordinates, and what a kind does not read has one value.

    Raises:
        ConfigError: a dimension that this kind cannot have.
    """
    asked = config.projection
    kind = KINDS.get(asked.kind, Kind())
    dim = asked.dim if kind.sized else parameters
    nonzeros = asked.nonzeros if kind.sparse else 1
    factors = tuple(asked.factors) if asked.kind == "factored" and asked.factors is not None else None
    spec = ProjectionSpec(asked.kind, dim, asked.seed, nonzeros, factors)
    problems = spec_problems(spec)
    if problems:
        raise ConfigError(problems)
    return spec


def matrices_of(spec: ProjectionSpec, model: nn.Module, selected: Mapping[str, Tensor]) -> Matrices:
    """The weights that kind ``factored`` multiplies from both sides; none for the other kinds.

    Raises:
        ConfigError: there is none although the kind is ``factored``.
    """
    if spec.kind != "factored":
        return {}
    found = outer_products(model, selected)
    if not found:
        raise ConfigError(
            Problem(
                "projection.kind",
                "factored, for a model with no selected weight of a linear or convolutional layer",
                "weights whose gradients are sums of outer products",
                "use projection=sjlt, or select such weights with parameters.include",
            )
        )
    return found
