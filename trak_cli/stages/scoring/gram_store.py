"""Finalised Gram matrices in a store: writing and reading them.

A file holds the eigendecomposition V diag(σ) Vᵀ, so that another ridge costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.attribution.estimator.spec import EstimatorSpec, gram_key
from trak_cli.attribution.linalg.spectrum import Spectrum
from trak_cli.errors import Problem, StoreError
from trak_cli.stages.index.fingerprints import gram_fingerprint
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.index.provenance import provenance
from trak_cli.store.container import read_image
from trak_cli.store.fingerprint import differences, require_same
from trak_cli.store.publish import write_image
from trak_cli.store.safety.records import is_count, require_shapes, understanding
from trak_cli.types import AnyArray, Float32, Json


@dataclass(frozen=True)
class Finalized:
    """The stored result of finalize for one checkpoint.

    Attributes:
        spectrum: the factorised Gram matrix.
        sample_weight: (rows,) float32 q of the simulated training; None for estimators that use the q of the shards.
        duration: length of the simulated training; NaN without one.
        arrived: whether it reached the outputs of the checkpoint.
        clip_threshold: the length to which training features are clipped; infinite for none.
    """

    spectrum: Spectrum
    sample_weight: Float32 | None = None
    duration: float = float("nan")
    arrived: bool = True
    clip_threshold: float = math.inf


def covers_classes(inventory: Inventory, estimator: EstimatorSpec) -> bool:
    """Whether the Gram matrices of this estimator cover the other classes of the samples."""
    return estimator.uses_curvature and inventory.curvature == "classes"


def write_gram(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str, found: Finalized) -> None:
    """Write a factorised Gram matrix; one of fewer rows (before the training set grew) is replaced."""
    path = gram_path(inventory, estimator, checkpoint)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "eigenvalues": found.spectrum.values,
        "eigenvectors": found.spectrum.vectors,
        "rows": np.array([inventory.rows]),
        "mean_diagonal": np.array([found.spectrum.mean_diag]),
        "mean_square": np.array([found.spectrum.mean_square]),
    }
    if found.sample_weight is not None:
        arrays |= {
            "sample_weight": found.sample_weight,
            "duration": np.array([found.duration]),
            "arrived": np.array([found.arrived]),
        }
    if math.isfinite(found.clip_threshold):
        arrays["clip_threshold"] = np.array([found.clip_threshold])
    if found.spectrum.response is not None:
        arrays["response"] = found.spectrum.response
    if found.spectrum.over == "terms":
        arrays["terms"] = np.array([found.spectrum.n])
    fingerprint = _expected(inventory, estimator, checkpoint)
    write_image(path, arrays, fingerprint, provenance(), overwrite=path.exists())


#: Keys in which an outdated Gram matrix may differ, which is then replaced: it was summed before the training set grew, or
#: weighted by an earlier version of the simulated training.
_STALE = {"rows", "simulated_training.version"}


_GRAM = "a Gram matrix of these features"


def find_gram(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str) -> Finalized | None:
    """The stored result for a checkpoint, or None when it is missing or out of date.

    Raises:
        StoreError: the file is damaged, or another run's.
    """
    path = gram_path(inventory, estimator, checkpoint)
    if not path.exists():
        return None
    image = read_image(path)
    expected = _expected(inventory, estimator, checkpoint)
    changed = {key for key, _, _ in differences(image.fingerprint, expected)}
    if changed and changed <= _STALE and is_count(image.fingerprint["rows"]) and image.fingerprint["rows"] <= inventory.rows:
        return None
    require_same(path, image.fingerprint, expected)
    ranks = image.shapes.get("eigenvalues", ())
    shapes = dict.fromkeys(("rows", "mean_diagonal", "mean_square"), (1,))
    require_shapes(path, image.shapes, {"eigenvalues": (None,), "eigenvectors": (inventory.dim, *ranks), **shapes}, _GRAM)
    with understanding(path, _GRAM):
        return _finalized(image.arrays, inventory, estimator)


def _finalized(arrays: Mapping[str, AnyArray], inventory: Inventory, estimator: EstimatorSpec) -> Finalized:
    over = "terms" if "terms" in arrays else "classes" if covers_classes(inventory, estimator) else "samples"
    numbers = {key: float(arrays[key][0]) for key in ("mean_diagonal", "mean_square")}
    spectrum = Spectrum(
        arrays["eigenvalues"],
        arrays["eigenvectors"],
        int(arrays["terms" if over == "terms" else "rows"][0]),
        numbers["mean_diagonal"],
        numbers["mean_square"],
        over,
        arrays.get("response"),
    )
    threshold = float(arrays["clip_threshold"][0]) if "clip_threshold" in arrays else math.inf
    if "sample_weight" not in arrays:
        return Finalized(spectrum, clip_threshold=threshold)
    duration, arrived = float(arrays["duration"][0]), bool(arrays["arrived"][0])
    return Finalized(spectrum, arrays["sample_weight"], duration, arrived, threshold)


def require_gram(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str) -> Finalized:
    """Like :func:`find_gram`, but a missing or outdated Gram matrix is an error.

    Raises:
        StoreError: it is missing, damaged, another run's or out of date.
    """
    found = find_gram(inventory, estimator, checkpoint)
    if found is None:
        path, remedy = gram_path(inventory, estimator, checkpoint), "run trak finalize with this estimator first"
        expected = f"the one that estimator {estimator.name} needs (weights: {gram_key(estimator, inventory.curvature)})"
        raise StoreError(Problem(str(path), "no Gram matrix of all training rows", expected, remedy))
    return found


def require_grams(inventory: Inventory, estimator: EstimatorSpec) -> None:
    """Check that every checkpoint has its factorised Gram matrix; reads one at a time.

    Raises:
        StoreError: with a problem for each that is missing, damaged, another run's or out of date.
    """
    problems: list[Problem] = []
    for name in inventory.checkpoints:
        try:
            require_gram(inventory, estimator, name)
        except StoreError as error:
            problems += error.problems
    if problems:
        raise StoreError(problems)


def gram_path(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str) -> Path:
    """The file of the Gram matrix that this estimator needs."""
    return inventory.layout.finalized(gram_key(estimator, inventory.curvature), checkpoint)


def _expected(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str) -> Json:
    return gram_fingerprint(inventory.features[checkpoint], estimator, inventory.rows)
