"""The ground truth of the LDS, from `trak retrain` or from a user's file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from trak_cli.attribution.lds.ceiling import noise_ceiling
from trak_cli.attribution.lds.ground_truth import axis_orders, check_ground_truth
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, InputError, Problem, StoreError
from trak_cli.stages.evaluation.user_arrays import read_array_file, transposed_copy
from trak_cli.stages.inputs.sample_identity import Array, changed_samples
from trak_cli.store.container import read_image
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, BoolArray, FloatArray


@dataclass(frozen=True)
class GroundTruth:
    """Subsets of the training set and the outputs of models retrained on them.

    Attributes:
        masks: (subsets, rows) bool, True where the subset contains the training row.
        outputs: (subsets, targets) mean output on each target over the models retrained on each subset.
        source: file or folder that it was read from.
        by_model: (subsets, models, targets) outputs of every single model; None if only their mean is known.
        note: how outputs were read, if not in the documented order of their axes.
    """

    masks: BoolArray
    outputs: FloatArray
    source: Path
    by_model: FloatArray | None = None
    note: str = ""

    @property
    def ceiling(self) -> float:
        """The noise ceiling of the LDS; NaN if it cannot be estimated."""
        return float("nan") if self.by_model is None else noise_ceiling(self.by_model)

    def no_ceiling(self, layout: Layout) -> str:
        """Why there is no noise ceiling, and how to get one."""
        why = "no noise ceiling (the LDS of a perfect predictor): it is estimated from how well models of one subset agree, and"
        if self.by_model is None:
            return f"{why} {self.source} has one output per subset and target; store outputs as (subsets, models, targets)"
        if self.by_model.shape[1] > 1:
            return f"{why} here no output changes with the subset"
        if self.source != layout.retrained_folder:
            return f"{why} {self.source} has one model per subset; store two or more, as (subsets, models, targets)"
        return f"{why} there is one per subset; move {self.source} away and run trak retrain retrain.models_per_subset=2"


def evaluated_split(config: TrakConfig, layout: Layout) -> str:
    """Return the target split of the ground truth: ``lds.split``, or the only target split of the store.

    Raises:
        ConfigError: ``lds.split`` is null, and the store has several target splits or none.
    """
    if config.lds.split is not None:
        return config.lds.split
    splits = [name for name in layout.described_splits() if name != TRAIN]
    if len(splits) == 1:
        return splits[0]
    expected = f"one of: {', '.join(splits)}" if splits else "a store with features of a target split"
    remedy = "set lds.split to the split to evaluate" if splits else "run trak featurize first"
    raise ConfigError(Problem("lds.split", "nothing", expected, remedy))


def read_ground_truth(layout: Layout, file: str | None, split: str, rows: int, targets: int) -> GroundTruth:
    """Read the ground truth of one target split.

    Raises:
        StoreError: ``file`` is None, and the store has no retrained models.
        InputError: masks or outputs have a wrong shape, dtype or value; the message names the expected shapes.
    """
    if file is None:
        source, note = layout.retrained_folder, ""
        masks, outputs = _retrained(layout, split)
    else:
        source = Path(file)
        masks, outputs, note = _from_file(source, targets)
    problems = check_ground_truth(masks, outputs, rows, targets, partial(transposed_copy, source))
    if problems:
        raise InputError([replace(problem, where=f"{source}: {problem.where}") for problem in problems])
    by_model = outputs if outputs.ndim == 3 else None
    mean = outputs if by_model is None else by_model.mean(axis=1)
    return GroundTruth(masks.astype(np.bool_), mean, source, by_model, note)


def _from_file(path: Path, targets: int) -> tuple[Array, Array, str]:
    """Masks, outputs, and a note if the axes of outputs were recognised by their sizes in another order than the documented."""
    arrays = read_array_file(path, ("masks", "outputs"))
    masks, outputs = arrays["masks"], arrays["outputs"]
    orders = axis_orders(outputs.shape, (*masks.shape[:1], None, targets))
    if len(orders) != 1 or orders[0] == (0, 1, 2):
        return masks, outputs, ""
    axes = dict(zip(orders[0], ("subsets", "models", "targets"), strict=True))
    return masks, outputs.transpose(orders[0]), f"; its outputs are read as ({', '.join(axes[axis] for axis in range(3))})"


def _retrained(layout: Layout, split: str) -> tuple[Array, Array]:
    """Masks (subsets, rows) and outputs (subsets, models, targets)."""
    key = f"outputs_{split}"
    masks, outputs = [], []
    samples: dict[str, Array] = {}
    for subset in layout.retrained_subsets():
        path = layout.retrained(subset)
        image = read_image(path)
        if key not in image.arrays:
            known = ", ".join(name.removeprefix("outputs_") for name in image.arrays if name.startswith("outputs_"))
            expected = f"one of: {known}"
            raise StoreError(Problem(str(path), f"no outputs on {split}", expected, "run trak retrain in a store of its own"))
        if changed := changed_samples(samples, image.arrays, "other subsets were trained"):
            found = f"{changed[0].where}: {changed[0].found}"
            remedy = "move away the files that belong to another data set, and run trak retrain again"
            raise StoreError(Problem(str(path), found, "subsets of one data set", remedy))
        samples = samples | image.arrays
        masks.append(image.arrays["mask"])
        outputs.append(image.arrays[key])
    if not masks:
        remedy = "run trak retrain first, or give lds.ground_truth=FILE (npz or HDF5 with masks and outputs)"
        raise StoreError(Problem(str(layout.retrained_folder), "no retrained models", "the ground truth of the LDS", remedy))
    return np.stack(masks), np.stack(outputs)
