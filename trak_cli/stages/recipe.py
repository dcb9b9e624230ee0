"""How features are made, whatever weights the model holds: of which coordinates, of which function, by which projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from trak_cli.config import TrakConfig
from trak_cli.gradients import (
    REPRESENTATION,
    Engine,
    ModelOutput,
    Place,
    RepresentationEngine,
    Routes,
    make_engine,
    represented,
    select,
    with_autocast,
)
from trak_cli.projection import ProjectionSpec, Projector, make_projector
from trak_cli.stages.microbatches import Featurizer, Split
from trak_cli.stages.parts import Checkpoint, Parts
from trak_cli.stages.projecting import Matrices, matrices_of, projection_spec
from trak_cli.types import Rows


@dataclass(frozen=True)
class Recipe:
    """Attributes:
    function: the task, under the autocast of the config.
    selected: the tensors whose coordinates are projected: parameters, or one sample's representation.
    spec: the projection.
    matrices: the weights that it multiplies from both sides (kind ``factored`` only).
    """

    config: TrakConfig
    parts: Parts
    device: torch.device
    function: ModelOutput
    selected: Mapping[str, torch.Tensor]
    spec: ProjectionSpec
    matrices: Matrices

    @property
    def represents(self) -> bool:
        """Whether features are representations, which have no gradients."""
        return self.config.gradients.engine == REPRESENTATION

    @property
    def sizes(self) -> dict[str, int]:
        """Coordinates of each selected tensor."""
        return {name: tensor.numel() for name, tensor in self.selected.items()}

    @property
    def parameters(self) -> int:
        """p, the number of coordinates."""
        return sum(self.sizes.values())

    def engine(self, name: str, routes: Routes) -> Engine:
        """The gradient engine of that name, on the model as it is."""
        model, gradients = self.parts.model, self.config.gradients
        if name == REPRESENTATION:
            return RepresentationEngine(model, self.parts.task, _place(self.config))
        selected = select(model, gradients.include, gradients.exclude)
        return make_engine(name, model, self.function, selected, routes, self.matrices)

    def featurizer(self, engine: str, routes: Routes, checkpoint: Checkpoint, microbatch: int) -> Featurizer:
        """What turns rows into features, for a checkpoint whose weights are in the model."""
        parts = self.parts
        made, projector = self.engine(engine, routes), self.projector(checkpoint)
        return Featurizer(parts.model, parts.task, made, projector, self.parameters, microbatch)

    def projector(self, checkpoint: Checkpoint) -> Projector:
        """The projection under a checkpoint."""
        return make_projector(
            self.spec,
            checkpoint.sha256,
            self.sizes,
            device=self.device,
            kernel=self.config.projection.kernel,
            threads=self.config.threads,
            matrices=self.matrices,
        )


def make_recipe(config: TrakConfig, parts: Parts, train: Split) -> Recipe:
    """The recipe of the config, for the model as it is.

    Raises:
        ConfigError, InputError, MachineError: the config asks for what this model, data or machine does not have.
    """
    selected = _selected(config, parts, train)
    spec = projection_spec(config, sum(tensor.numel() for tensor in selected.values()))
    function = with_autocast(parts.task, parts.model, train.device, config.gradients.autocast)
    return Recipe(config, parts, train.device, function, selected, spec, matrices_of(spec, parts.model, selected))


def _selected(config: TrakConfig, parts: Parts, train: Split) -> dict[str, torch.Tensor]:
    if config.gradients.engine == REPRESENTATION:
        single = train.batch(train.samples(Rows(0, 1)))
        return represented(parts.model, parts.task, single, _place(config))
    return select(parts.model, config.gradients.include, config.gradients.exclude)


def _place(config: TrakConfig) -> Place:
    """Where the representation is read; without a module, at the model's own output."""
    return Place(config.gradients.module or "", config.gradients.side)
