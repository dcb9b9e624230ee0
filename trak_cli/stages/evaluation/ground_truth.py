"""The ground truth of the LDS, from `trak retrain` or from a user's file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from trak_cli.attribution.lds.ceiling import noise_ceiling
from trak_cli.attribution.lds.ground_truth import axis_orders, check_ground_truth
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import InputError, Problem
from trak_cli.stages.evaluation.evaluated_targets import EvaluatedTargets
from trak_cli.stages.evaluation.retrained_models import compact_weights, read_subsets
from trak_cli.stages.evaluation.user_arrays import read_array_file, transposed_copy
from trak_cli.stages.index.chosen_rows import choose_split
from trak_cli.stages.inputs.sample_identity import Array
from trak_cli.store.layout import Layout
from trak_cli.types import FloatArray, SubsetWeights


@dataclass(frozen=True)
class GroundTruth:
    """Subsets of the training set, or weights of its samples, and the outputs of models retrained with them.

    Attributes:
        weights: (subsets, rows), bool where they are all 0 or 1: True where the subset contains the training row.
        outputs: (subsets, targets) mean output on each target over the models retrained on each subset.
        source: file or folder that it was read from.
        by_model: (subsets, models, targets) outputs of every single model; None if only their mean is known.
        same_seed: whether all models are the same run but for the weights, so that their outputs have no noise.
        note: how outputs were read, if not in the documented order of their axes.
    """

    weights: SubsetWeights
    outputs: FloatArray
    source: Path
    by_model: FloatArray | None = None
    same_seed: bool = False
    note: str = ""

    @property
    def ceiling(self) -> float:
        """The noise ceiling of the LDS; NaN if it cannot be estimated."""
        if self.same_seed:
            return 1.0
        return float("nan") if self.by_model is None else noise_ceiling(self.by_model)

    def no_ceiling(self, layout: Layout) -> str:
        """Why there is no noise ceiling, and how to get one."""
        why = "no noise ceiling (the LDS of a perfect predictor): it is estimated from how well models of one subset agree, and"
        if self.by_model is None:
            return f"{why} {self.source} has one output per subset and target; store outputs as (subsets, models, targets)"
        if self.by_model.shape[1] > 1:
            return f"{why} here no output changes with the subset"
        if self.source != layout.retrained_folder():
            return f"{why} {self.source} has one model per subset; store two or more, as (subsets, models, targets)"
        return f"{why} there is one per subset; move {self.source} away and run trak retrain retrain.models_per_subset=2"

    def of(self, targets: EvaluatedTargets) -> GroundTruth:
        """The ground truth of some targets, or of the mean output over them (then with one target)."""
        by_model = None if self.by_model is None else targets.columns(self.by_model)
        return replace(self, outputs=targets.columns(self.outputs), by_model=by_model)


def evaluated_split(config: TrakConfig, layout: Layout) -> str:
    """Return the target split of the ground truth: ``lds.split``, or the only target split of the store.

    Raises:
        ConfigError: the store has no such split, or ``lds.split`` is null and the store has several target splits or none.
    """
    return choose_split("lds", config.lds.split, layout.described_splits())


def read_ground_truth(config: TrakConfig, layout: Layout, split: str, rows: int, targets: int) -> GroundTruth:
    """Read and check the ground truth of one target split: ``lds.ground_truth``, or the models of `trak retrain`.

    Raises:
        StoreError: there are no retrained models of the protocol (``retrain.same_seed``).
        InputError: weights or outputs have a wrong shape, dtype or value; the message names the expected shapes.
    """
    if config.lds.ground_truth is None:
        run = config.retrain.own_run
        source, note, name = layout.retrained_folder(run), "", "masks" if run is None else "weights"
        subsets = read_subsets(layout, run, split)
        weights, names = subsets.weights, [name]
        outputs = subsets.outputs if config.lds.output == "f" else -subsets.require_losses()
    else:
        source = Path(config.lds.ground_truth)
        weights, outputs, name, note = _from_file(source, targets)
        run, names = None, [name, "outputs"]
    problems = check_ground_truth(weights, outputs, rows, targets, partial(transposed_copy, source, names), name)
    if problems:
        raise InputError([replace(problem, where=f"{source}: {problem.where}") for problem in problems])
    by_model = outputs if outputs.ndim == 3 else None
    mean = outputs if by_model is None else by_model.mean(axis=1)
    return GroundTruth(compact_weights(weights), mean, source, by_model, run is not None, note)


def _from_file(path: Path, targets: int) -> tuple[Array, Array, str, str]:
    """Weights, outputs, the name of the weights, and a note if the axes of outputs are in another order than documented."""
    arrays = read_array_file(path, ("outputs",), optional=("masks", "weights"))
    names = [name for name in ("masks", "weights") if name in arrays]
    if len(names) != 1:
        found = "both of masks and weights" if names else "neither masks nor weights"
        expected = "masks (subsets, rows) bool, or weights (subsets, rows) of the samples' losses"
        raise InputError(Problem(str(path), found, expected, "save one of the two under its name"))
    (name,) = names
    weights, outputs = arrays[name], arrays["outputs"]
    orders = axis_orders(outputs.shape, (*weights.shape[:1], None, targets))
    if len(orders) != 1 or orders[0] == (0, 1, 2):
        return weights, outputs, name, ""
    axes = dict(zip(orders[0], ("subsets", "models", "targets"), strict=True))
    note = f"; its outputs are read as ({', '.join(axes[axis] for axis in range(3))})"
    return weights, outputs.transpose(orders[0]), name, note
