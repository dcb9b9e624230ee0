"""Reading the models that `trak retrain` stores: sample weights, outputs and losses on the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.errors import Problem, StoreError
from trak_cli.stages.inputs.sample_identity import Array, changed_samples
from trak_cli.store.container import read_image
from trak_cli.store.layout import Layout
from trak_cli.store.safety.records import understanding
from trak_cli.types import Float32, SubsetWeights


@dataclass(frozen=True)
class RetrainedModels:
    """Models of several files, in the order of the files.

    Attributes:
        weights: (files, rows), bool where all are 0 or 1.
        outputs: (files, models, targets).
        losses: (files, models, targets); None for models with other seeds, whose losses are not stored.
    """

    weights: SubsetWeights
    outputs: Float32
    losses: Float32 | None

    def require_losses(self) -> Float32:
        """The losses of a run with its own seed, of which all files have them."""
        if self.losses is None:
            raise ValueError("models with other seeds")
        return self.losses


def read_subsets(layout: Layout, run: int | None, split: str) -> RetrainedModels:
    """The models of all random subsets.

    Raises:
        StoreError: there are none, or they are of several data sets.
    """
    paths = [layout.retrained(subset, run) for subset in layout.retrained_subsets(run)]
    if not paths:
        raise StoreError(_nothing_retrained(layout, run))
    return read_models(paths, split)


def read_models(paths: Sequence[Path], split: str) -> RetrainedModels:
    """The models of some files.

    Raises:
        StoreError: a file is missing, damaged, without the split, or of another data set.
    """
    samples: dict[str, Array] = {}
    weights, outputs, losses = [], [], []
    for path in paths:
        arrays = read_image(path).arrays
        if f"outputs_{split}" not in arrays:
            known = ", ".join(name.removeprefix("outputs_") for name in arrays if name.startswith("outputs_"))
            expected = f"one of: {known}"
            raise StoreError(Problem(str(path), f"no outputs on {split}", expected, "run trak retrain in a store of its own"))
        if changed := changed_samples(samples, arrays, "other subsets were trained"):
            found = f"{changed[0].where}: {changed[0].found}"
            remedy = "move away the files that belong to another data set, and run trak retrain again"
            raise StoreError(Problem(str(path), found, "subsets of one data set", remedy))
        samples = samples | {name: array for name, array in arrays.items() if name.startswith(("rows_", "sample_ids_"))}
        weights.append(compact_weights(arrays["weights"] if "weights" in arrays else arrays["mask"]))
        outputs.append(arrays[f"outputs_{split}"])
        losses.append(arrays.get(f"losses_{split}"))
    known_losses = [array for array in losses if array is not None]
    complete = len(known_losses) == len(paths)
    with understanding(paths[0].parent, "models retrained with one data set and one number of models"):
        stacked: Any = np.stack(weights)  # of one dtype, or float32
        return RetrainedModels(stacked, np.stack(outputs), np.stack(known_losses) if complete else None)


def compact_weights(weights: Array) -> SubsetWeights:
    """Bool if all weights are 0 or 1, which needs a quarter of the memory, else float32."""
    if weights.dtype == np.bool_ or ((weights == 0) | (weights == 1)).all():
        return weights.astype(np.bool_)
    return weights.astype(np.float32)


def _nothing_retrained(layout: Layout, run: int | None) -> Problem:
    others = [f"retrain.same_seed=true retrain.run={other}" for other in layout.retrained_runs() if other != run]
    if run is not None and layout.retrained_subsets():
        others.append("retrain.same_seed=false")
    if others:
        remedy = f"give {' or '.join(others)}, whose models are stored"
    elif run is None:
        remedy = "run trak retrain first, or give lds.ground_truth=FILE (npz or HDF5 with masks and outputs)"
    else:
        remedy = f"run trak retrain retrain.same_seed=true retrain.run={run} first"
    return Problem(str(layout.retrained_folder(run)), "no retrained models", "the ground truth of the LDS", remedy)
