"""What is solved: the targets, the training rows that are scored, and how much fits into memory at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.config.schema import RefineConfig
from trak_cli.errors import ConfigError, Problem
from trak_cli.gradients.curvature.loss import WINDOW
from trak_cli.gradients.tuning.memory import GradientWork, activation_bytes
from trak_cli.stages.featurizing.setup import FeatureSetup
from trak_cli.stages.index.chosen_rows import choose_rows, choose_split
from trak_cli.stages.index.fingerprints import scores_fingerprint
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.store.chosen_targets import ChosenTargets
from trak_cli.types import IntArray, Json, Rows, evenly_spaced, shards_of

#: Version of the systems and of the way they are solved; part of fingerprints.
VERSION = 2

#: Directions of the preconditioner, at most, unless ``refine.rank`` is set.
MOST_DIRECTIONS = 100

#: Vectors of p numbers that exist for each system while it is solved, and for each direction of the preconditioner.
_OF_SYSTEM, _OF_DIRECTION = 9, 4

#: Copies of the activations of a microbatch that exist for each vector in a pass through the model.
_OF_PASS = 4


@dataclass(frozen=True)
class Settings:
    """Attributes:
    chosen: the targets; None for all rows of the split.
    targets: rows of the split, of which the systems are made.
    block: systems that are solved together.
    microbatch, columns: samples and vectors in one pass through the model.
    rank: directions of the preconditioner.
    curvature_rows: training rows that the curvature is computed from.
    """

    refine: RefineConfig
    name: str
    split: str
    chosen: ChosenTargets | None
    targets: Sequence[int]
    block: int
    microbatch: int
    columns: int
    rank: int
    curvature_rows: IntArray

    @property
    def systems(self) -> int:
        """The number of systems: of the targets, or 1 for a group."""
        return 1 if self.refine.group else len(self.targets)

    @property
    def blocks(self) -> list[Rows]:
        """The blocks of systems."""
        return list(shards_of(self.systems, self.block))

    def fingerprint(self, inventory: Inventory, estimator: EstimatorSpec) -> Json:
        """What determines the scores."""
        features = list(inventory.features.values())
        targets = rows_of(inventory.layout, self.split)
        scores = scores_fingerprint(estimator, features, inventory.rows, self.split, targets, self.refine.candidates)
        refined: Json = {
            "version": VERSION,
            "window": WINDOW,
            "ridge": self.refine.ridge,
            "rows": len(self.curvature_rows),
            "rank": self.rank,
            "iterations": self.refine.iterations,
            "tolerance": self.refine.tolerance,
        }
        chosen = {} if self.chosen is None else self.chosen.entry()
        return {**scores, "refined": refined, "target_block": self.block, **chosen}


def make_settings(
    refine: RefineConfig, estimator: EstimatorSpec, inventory: Inventory, setup: FeatureSetup, sample: object
) -> Settings:
    """The settings of a run.

    Args:
        sample: a training batch of one, the largest of those that were looked at.

    Raises:
        ConfigError: a split or a target that does not exist, or one system does not fit into memory.
    """
    split = choose_split("refine", refine.split, inventory.layout.described_splits())
    targets = choose_rows("refine", refine.targets, split, rows_of(inventory.layout, split))
    chosen = ChosenTargets(targets, refine.group) if refine.targets is not None or refine.group else None
    systems = 1 if refine.group else len(targets)
    half = refine.memory_mb * 2**20 // 2
    rank = min(systems, MOST_DIRECTIONS) if refine.rank is None else refine.rank
    vector = setup.parameters * max(4, *(tensor.element_size() for tensor in setup.selected.values()))
    least = _OF_SYSTEM * vector + 4 * 4 * inventory.rows
    room = half - (rank * _OF_DIRECTION * vector if refine.rank else 0)
    if room < least:
        expected = f"at least {-(-2 * (least + half - room) // 2**20)} MiB, which one system needs"
        remedy = "raise refine.memory_mb, or lower refine.rank" if refine.rank else "raise refine.memory_mb"
        raise ConfigError(Problem("refine.memory_mb", f"{refine.memory_mb} MiB", expected, remedy))
    if refine.rank is None:  # as many directions as systems of a block
        block = min(systems, max(1, half // (least + _OF_DIRECTION * vector)))
        rank = min(rank, block)
    else:
        block = min(systems, room // least)
    saved = max(1, activation_bytes(GradientWork(setup.model, setup.function, sample, setup.selected)))
    microbatch = max(1, min(inventory.plan.microbatch, half // (_OF_PASS * saved)))
    columns = max(1, min(block, half // (_OF_PASS * saved * microbatch)))
    rows = evenly_spaced(inventory.rows, inventory.rows if refine.rows is None else refine.rows)
    name = refine.name or f"{estimator.name}_refined"
    return Settings(refine, name, split, chosen, targets, block, microbatch, columns, rank, rows)
