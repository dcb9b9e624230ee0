"""Checks of a ground truth for the LDS."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trak_cli.errors import Problem

_MASKS = "ground truth: masks"
_OUTPUTS = "ground truth: outputs"

_Any = npt.NDArray[Any]


def check_ground_truth(masks: _Any, outputs: _Any, n: int, t: int) -> list[Problem]:
    """Everything that is wrong with a ground truth; empty if it can be used.

    Args:
        masks: should be (subsets, n) bool; row s says which training samples are in subset s.
        outputs: should be (subsets, t) floating: the model output f on every target, of models trained on subset s (the mean
            over training seeds if there are several).
        n: number of training samples.
        t: number of targets.
    """
    problems = _shape_problems(_MASKS, masks, n, "training samples") + _shape_problems(_OUTPUTS, outputs, t, "targets")
    if problems:
        return problems + _dtype_problems(masks, outputs)
    if len(masks) != len(outputs):
        found = f"{len(outputs)} rows, while masks has {len(masks)}"
        problems.append(Problem(_OUTPUTS, found, "one row for each subset", "store the two for the same subsets"))
    elif len(masks) < 3:
        found = f"{len(masks)} subsets"
        problems.append(Problem(_MASKS, found, "3 or more, because correlations are over subsets", "retrain on more subsets"))
    problems += _dtype_problems(masks, outputs)
    return problems + ([] if problems else _mask_problems(masks) + _output_problems(outputs))


def _shape_problems(where: str, array: _Any, columns: int, of: str) -> list[Problem]:
    if array.ndim == 2 and array.shape[1] == columns:
        return []
    expected = f"shape (subsets, {columns}): one row for each subset, one column for each of the {columns} {of}"
    remedy = "store it in this shape"
    if array.ndim == 2 and array.shape[0] == columns:
        remedy = "it looks transposed: store its transpose"
    elif array.ndim == 3 and array.shape[2] == columns:
        remedy = "if an axis runs over training seeds, store the mean over it"
    return [Problem(where, f"shape {tuple(array.shape)}", expected, remedy)]


def _dtype_problems(masks: _Any, outputs: _Any) -> list[Problem]:
    problems = []
    if masks.dtype != np.bool_:
        remedy = "store masks.astype(bool)"
        if masks.dtype.kind not in "iu" or not np.isin(masks, (0, 1)).all():
            remedy = "store true where the sample is in the subset (not lists of indices or weights)"
        problems.append(Problem(_MASKS, f"dtype {masks.dtype}", "dtype bool", remedy))
    if outputs.dtype.kind != "f":
        problems.append(Problem(_OUTPUTS, f"dtype {outputs.dtype}", "a floating dtype", "store the real-valued outputs f"))
    return problems


def _mask_problems(masks: _Any) -> list[Problem]:
    problems = []
    sizes = masks.sum(axis=1)
    for size, word in ((0, "empty"), (masks.shape[1], "the whole training set")):
        rows = np.flatnonzero(sizes == size)
        if len(rows):
            found = f"{len(rows)} subsets that are {word} (rows {_listed(rows)})"
            problems.append(Problem(_MASKS, found, "proper subsets", "leave these rows out of masks and outputs"))
    if not problems and (masks == masks[0]).all():
        found = f"the same subset {len(masks)} times"
        problems.append(Problem(_MASKS, found, "different subsets", "retrain on random subsets"))
    return problems


def _output_problems(outputs: _Any) -> list[Problem]:
    finite = np.isfinite(outputs)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        found = f"{np.count_nonzero(~finite)} NaN or infinite entries (first: subset {row}, target {column})"
        remedy = "retrain those models, or leave those subsets out of masks and outputs"
        return [Problem(_OUTPUTS, found, "finite numbers", remedy)]
    if (outputs == outputs[0]).all():
        found = "the same output for every subset, on every target"
        return [Problem(_OUTPUTS, found, "outputs of models retrained on different subsets", "check what was stored")]
    return []


def _listed(rows: npt.NDArray[np.int64]) -> str:
    shown = ", ".join(str(row) for row in rows[:5])
    return f"{shown}, …" if len(rows) > 5 else shown
