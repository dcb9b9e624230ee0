"""Finalised Gram matrices in a store: summed, written, found again.

What is filed is the eigendecomposition V diag(σ) Vᵀ, which is the matrix and makes another ridge free.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from trak_cli.attribution import EstimatorSpec, GramSum, Spectrum, decompose, gram_key
from trak_cli.errors import Problem, StoreError
from trak_cli.stages.identity import gram_fingerprint
from trak_cli.stages.inventory import Inventory
from trak_cli.stages.machine import provenance
from trak_cli.stages.parts import TRAIN
from trak_cli.store import differences, read_image, require_same, write_image
from trak_cli.types import Json


def sum_gram(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str, progress: Callable[[int], None]) -> Spectrum:
    """One pass over a checkpoint's training features, for the factorised Gram matrix."""
    total = GramSum(inventory.dim, estimator.gram_exponent, estimator.unit_norm)
    for shard in inventory.read_all(checkpoint, TRAIN):
        total.add(shard.features, shard.out_to_loss)
        progress(len(shard.rows))
    return decompose(total.result())


def write_spectrum(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str, spectrum: Spectrum) -> None:
    """File a factorised Gram matrix; one of fewer rows (before the training set grew) is replaced."""
    path = gram_path(inventory, estimator, checkpoint)
    arrays = {
        "eigenvalues": spectrum.values,
        "eigenvectors": spectrum.vectors,
        "rows": np.array([spectrum.n]),
        "mean_diagonal": np.array([spectrum.mean_diag]),
    }
    fingerprint = _expected(inventory, estimator, checkpoint)
    write_image(path, arrays, fingerprint, provenance(), overwrite=path.exists())


def find_spectrum(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str) -> Spectrum | None:
    """The factorised Gram matrix of a checkpoint, or None when it is missing or was summed before the training set grew.

    Raises:
        StoreError: the file is damaged, or another run's.
    """
    path = gram_path(inventory, estimator, checkpoint)
    if not path.exists():
        return None
    image = read_image(path)
    expected = _expected(inventory, estimator, checkpoint)
    changed = {key for key, _, _ in differences(image.fingerprint, expected)}
    if changed == {"rows"} and image.fingerprint["rows"] < inventory.rows:
        return None
    require_same(path, image.fingerprint, expected)
    return Spectrum(
        image.arrays["eigenvalues"],
        image.arrays["eigenvectors"],
        int(image.arrays["rows"][0]),
        float(image.arrays["mean_diagonal"][0]),
    )


def require_spectrum(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str) -> Spectrum:
    """Like :func:`find_spectrum`, for stages that cannot do without.

    Raises:
        StoreError: it is missing, damaged, another run's or out of date.
    """
    spectrum = find_spectrum(inventory, estimator, checkpoint)
    if spectrum is None:
        raise StoreError(
            Problem(
                str(gram_path(inventory, estimator, checkpoint)),
                "no Gram matrix of all training rows",
                f"the one that estimator {estimator.name} needs (weights: {gram_key(estimator)})",
                "run trak finalize with this estimator first",
            )
        )
    return spectrum


def require_spectra(inventory: Inventory, estimator: EstimatorSpec) -> None:
    """Make sure that every checkpoint has its factorised Gram matrix; reads one at a time.

    Raises:
        StoreError: with a problem for each that is missing, damaged, another run's or out of date.
    """
    problems: list[Problem] = []
    for name in inventory.checkpoints:
        try:
            require_spectrum(inventory, estimator, name)
        except StoreError as error:
            problems += error.problems
    if problems:
        raise StoreError(problems)


def gram_path(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str) -> Path:
    """Where the Gram matrix that this estimator needs is filed."""
    return inventory.layout.finalized(gram_key(estimator), checkpoint)


def _expected(inventory: Inventory, estimator: EstimatorSpec, checkpoint: str) -> Json:
    return gram_fingerprint(inventory.features[checkpoint], estimator, inventory.rows)
