"""The ground truth of the LDS, from `trak retrain` or from a user's file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.attribution.lds.ground_truth import check_ground_truth
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, InputError, Problem, StoreError
from trak_cli.stages.evaluation.user_arrays import read_array_file
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
    """

    masks: BoolArray
    outputs: FloatArray
    source: Path
    by_model: FloatArray | None = None


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
    raise ConfigError(
        Problem(
            "lds.split",
            "nothing",
            f"one of: {', '.join(splits)}" if splits else "a store with features of a target split",
            "set lds.split to the split to evaluate" if splits else "run trak featurize first",
        )
    )


def read_ground_truth(layout: Layout, file: str | None, split: str, rows: int, targets: int) -> GroundTruth:
    """Read the ground truth of one target split.

    Raises:
        StoreError: ``file`` is None, and the store has no retrained models.
        InputError: masks or outputs have a wrong shape, dtype or value; the message names the expected shapes.
    """
    truth = _retrained(layout, split) if file is None else _from_file(Path(file))
    problems = check_ground_truth(truth.masks, truth.outputs, rows, targets)
    if problems:
        raise InputError([Problem(f"{truth.source}: {one.where}", one.found, one.expected, one.remedy) for one in problems])
    return dataclasses.replace(truth, masks=truth.masks.astype(np.bool_))


def _from_file(path: Path) -> GroundTruth:
    arrays = read_array_file(path, ("masks", "outputs"))
    masks, outputs = arrays["masks"], arrays["outputs"]
    if outputs.ndim == 3 and outputs.dtype.kind == "f" and outputs.shape[:1] == masks.shape[:1] and outputs.shape[1]:
        return _of_models(masks, outputs, path)
    return GroundTruth(masks, outputs, path)


def _of_models(masks: np.ndarray[Any, Any], outputs: np.ndarray[Any, Any], source: Path) -> GroundTruth:
    """A ground truth from outputs of single models (subsets, models, targets)."""
    return GroundTruth(masks, outputs.mean(axis=1), source, outputs)


def _retrained(layout: Layout, split: str) -> GroundTruth:
    key = f"outputs_{split}"
    masks, outputs = [], []
    samples: dict[str, Array] = {}
    for subset in layout.retrained_subsets():
        path = layout.retrained(subset)
        image = read_image(path)
        if key not in image.arrays:
            known = ", ".join(name.removeprefix("outputs_") for name in image.arrays if name.startswith("outputs_"))
            raise StoreError(
                Problem(str(path), f"no outputs on {split}", f"one of: {known}", "run trak retrain in a store of its own")
            )
        if changed := changed_samples(samples, image.arrays, "other subsets were trained"):
            found = f"{changed[0].where}: {changed[0].found}"
            remedy = "move away the files that belong to another data set, and run trak retrain again"
            raise StoreError(Problem(str(path), found, "subsets of one data set", remedy))
        samples = samples | image.arrays
        masks.append(image.arrays["mask"])
        outputs.append(image.arrays[key])
    if not masks:
        raise StoreError(
            Problem(
                str(layout.retrained_folder),
                "no retrained models",
                "the ground truth of the LDS",
                "run trak retrain first, or give lds.ground_truth=FILE (npz or HDF5 with masks and outputs)",
            )
        )
    return _of_models(np.stack(masks), np.stack(outputs), layout.retrained_folder)
