"""Checks of a ground truth for the LDS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from trak_cli.errors import Problem
from trak_cli.plurals import counted

_MASKS = "ground truth: masks"
_OUTPUTS = "ground truth: outputs"

_Any = npt.NDArray[Any]

#: (name of an array, its axes in the right order, as for ``transpose``) -> what to do.
Remedy = Callable[[str, Sequence[int]], str]


def axis_orders(shape: Sequence[int], wanted: Sequence[int | None]) -> list[tuple[int, ...]]:
    """Every order of the axes, as for ``transpose``, in which they have the sizes ``wanted`` (None: any size above 0).

    The order as it is comes first, if it is one of them.
    """
    orders = permutations(range(len(shape))) if len(shape) == len(wanted) else iter(())
    return [
        order for order in orders if all(shape[i] == (size or shape[i] or -1) for i, size in zip(order, wanted, strict=True))
    ]


def _store_transposed(name: str, order: Sequence[int]) -> str:
    return f"its axes are in another order: store {name}.transpose{tuple(order)}"


def check_ground_truth(
    weights: _Any, outputs: _Any, n: int, t: int, remedy: Remedy = _store_transposed, name: str = "masks"
) -> list[Problem]:
    """Everything that is wrong with a ground truth; empty if it can be used.

    Args:
        weights: should be (subsets, n): bool (row s says which training samples are in subset s), or the real weights that
            the samples' losses had.
        outputs: should be (subsets, t) or (subsets, models, t) floating: the model output f on every target, of models trained
            on subset s (without an axis of models: of one model, or the mean over several).
        n: number of training samples.
        t: number of targets.
        remedy: what to do about an array whose axes are in another order.
        name: of the first array, "masks" (must be bool) or "weights".
    """
    where = f"ground truth: {name}"
    problems = _shape_problems(where, weights, (None, n), f"each of the {counted(n, 'training sample')}", remedy)
    wanted = (len(weights), None, t) if outputs.ndim == 3 and not problems else (None, t)
    problems += _shape_problems(_OUTPUTS, outputs, wanted, f"each of the {counted(t, 'target')}", remedy)
    if problems:
        return problems + _dtype_problems(where, weights, outputs)
    if len(weights) != len(outputs):
        found = f"{counted(len(outputs), 'row')}, while {name} has {len(weights)}"
        problems.append(Problem(_OUTPUTS, found, "one row for each subset", "store the two for the same subsets"))
    elif len(weights) < 3:
        found = counted(len(weights), "subset")
        problems.append(Problem(where, found, "3 or more, because correlations are over subsets", "retrain on more subsets"))
    problems += _dtype_problems(where, weights, outputs)
    if problems:
        return problems
    check = _mask_problems if weights.dtype == np.bool_ else _weight_problems
    return check(where, weights) + _output_problems(outputs)


def _shape_problems(where: str, array: _Any, wanted: tuple[int | None, ...], columns: str, remedy: Remedy) -> list[Problem]:
    orders = axis_orders(array.shape, wanted)
    if orders and orders[0] == tuple(range(array.ndim)):
        return []
    shape = f"(subsets, {wanted[-1]})" if len(wanted) == 2 else f"({wanted[0]} subsets, models, {wanted[-1]})"
    expected = f"shape {shape}: one row for each subset, one column for {columns}"
    name = where.rpartition(" ")[2]
    advice = "; or ".join(remedy(name, order) for order in orders) or "store it in this shape"
    return [Problem(where, f"shape {tuple(array.shape)}", expected, advice)]


def _dtype_problems(where: str, weights: _Any, outputs: _Any) -> list[Problem]:
    problems = []
    if where == _MASKS and weights.dtype != np.bool_:
        remedy = "store masks.astype(bool)"
        if weights.dtype.kind not in "iu" or not np.isin(weights, (0, 1)).all():
            remedy = (
                "store true where the sample is in the subset (not lists of indices), or give real weights the name weights"
            )
        problems.append(Problem(_MASKS, f"dtype {weights.dtype}", "dtype bool", remedy))
    elif weights.dtype.kind not in "fiub":
        problems.append(Problem(where, f"dtype {weights.dtype}", "real numbers", "store the weights of the samples' losses"))
    if outputs.dtype.kind != "f":
        problems.append(Problem(_OUTPUTS, f"dtype {outputs.dtype}", "a floating dtype", "store the real-valued outputs f"))
    return problems


def _mask_problems(where: str, masks: _Any) -> list[Problem]:
    problems = []
    sizes = masks.sum(axis=1)
    for size, word in ((0, "empty"), (masks.shape[1], "the whole training set")):
        rows = np.flatnonzero(sizes == size)
        if len(rows):
            found = f"{word}: {counted(len(rows), 'subset')} (rows {_listed(rows)})"
            problems.append(Problem(where, found, "proper subsets", "leave these rows out of masks and outputs"))
    if not problems and (masks == masks[0]).all():
        found = f"the same subset {len(masks)} times"
        problems.append(Problem(where, found, "different subsets", "retrain on random subsets"))
    return problems


def _weight_problems(where: str, weights: _Any) -> list[Problem]:
    finite = np.isfinite(weights)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        found = f"{np.count_nonzero(~finite)} NaN or infinite entries (first: subset {row}, sample {column})"
        return [Problem(where, found, "finite numbers", "store the weights that the samples had in training")]
    if (weights == weights[0]).all():
        found = f"the same weights {len(weights)} times"
        return [Problem(where, found, "different weights", "retrain with random weights")]
    return []


def _output_problems(outputs: _Any) -> list[Problem]:
    finite = np.isfinite(outputs)
    if not finite.all():
        row, *_, column = np.argwhere(~finite)[0]
        found = f"{np.count_nonzero(~finite)} NaN or infinite entries (first: subset {row}, target {column})"
        remedy = "retrain those models, or leave those subsets out"
        return [Problem(_OUTPUTS, found, "finite numbers", remedy)]
    if (outputs == outputs[0]).all():
        found = "the same output for every subset, on every target"
        return [Problem(_OUTPUTS, found, "outputs of models retrained on different subsets", "check what was stored")]
    return []


def _listed(rows: npt.NDArray[np.int64]) -> str:
    shown = ", ".join(str(row) for row in rows[:5])
    return f"{shown}, …" if len(rows) > 5 else shown
