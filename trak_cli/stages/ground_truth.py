"""The ground truth of the LDS: from `trak retrain`, or from a file of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trak_cli.attribution import check_ground_truth
from trak_cli.errors import InputError, Problem, StoreError
from trak_cli.stages.array_files import read_array_file
from trak_cli.store import Layout, read_image
from trak_cli.types import BoolArray, FloatArray


@dataclass(frozen=True)
class GroundTruth:
    """Attributes:
    masks: (subsets, rows) bool: which training rows each subset has.
    outputs: (subsets, targets): mean output, on each target, of the models retrained on each subset.
    source: where it was read.
    """

    masks: BoolArray
    outputs: FloatArray
    source: Path


def read_ground_truth(layout: Layout, file: str | None, split: str, rows: int, targets: int) -> GroundTruth:
    """The ground truth for one target split.

    Raises:
        StoreError: no file was named and there are no retrained models in the store.
        InputError: masks or outputs are not what they should be; says the shapes that are wanted.
    """
    truth = _retrained(layout, split) if file is None else _from_file(Path(file))
    problems = check_ground_truth(truth.masks, truth.outputs, rows, targets)
    if problems:
        raise InputError([Problem(f"{truth.source}: {one.where}", one.found, one.expected, one.remedy) for one in problems])
    return GroundTruth(truth.masks.astype(np.bool_), truth.outputs, truth.source)


def _from_file(path: Path) -> GroundTruth:
    arrays = read_array_file(path, ("masks", "outputs"))
    return GroundTruth(arrays["masks"], arrays["outputs"], path)


def _retrained(layout: Layout, split: str) -> GroundTruth:
    key = f"outputs_{split}"
    masks, outputs = [], []
    for subset in layout.retrained_subsets():
        path = layout.retrained(subset)
        image = read_image(path)
        if key not in image.arrays:
            known = ", ".join(name.removeprefix("outputs_") for name in image.arrays if name.startswith("outputs_"))
            raise StoreError(
                Problem(str(path), f"no outputs on {split}", f"one of: {known}", "run trak retrain in a store of its own")
            )
        masks.append(image.arrays["mask"])
        outputs.append(image.arrays[key].mean(axis=0))
    if not masks:
        raise StoreError(
            Problem(
                str(layout.retrained_folder),
                "no retrained models",
                "the ground truth of the LDS",
                "run trak retrain first, or give lds.ground_truth=FILE (npz or HDF5 with masks and outputs)",
            )
        )
    return GroundTruth(np.stack(masks), np.stack(outputs), layout.retrained_folder)
