"""Checks of a ground truth for the LDS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from trak_cli.errors import Problem

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


def check_ground_truth(masks: _Any, outputs: _Any, n: int, t: int, remedy: Remedy = _store_transposed) -> list[Problem]:
    """Everything that is wrong with a ground truth; empty if it can be used.

    Args:
        masks: should be (subsets, n) bool; row s says which training samples are in subset s.
        outputs: should be (subsets, t) or (subsets, models, t) floating: the model output f on every target, of models trained
            on subset s (without an axis of models: of one model, or the mean over several).
        n: number of training samples.
        t: number of targets.
        remedy: what to do about an array whose axes are in another order.
    """
    problems = _shape_problems(_MASKS, masks, (None, n), f"each of the {n} training samples", remedy)
    wanted = (len(masks), None, t) if outputs.ndim == 3 and not problems else (None, t)
    problems += _shape_problems(_OUTPUTS, outputs, wanted, f"each of the {t} targets", remedy)
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


def _shape_problems(where: str, array: _Any, wanted: tuple[int | None, ...], columns: str, remedy: Remedy) -> list[Problem]:
    orders = axis_orders(array.shape, wanted)
    if orders and orders[0] == tuple(range(array.ndim)):
        return []
    shape = f"(subsets, {wanted[-1]})" if len(wanted) == 2 else f"({wanted[0]} subsets, models, {wanted[-1]})"
    expected = f"shape {shape}: one row for each subset, one column for {columns}"
    name = where.rpartition(" ")[2]
    advice = "; or ".join(remedy(name, order) for order in orders) or "store it in this shape"
    return [Problem(where, f"shape {tuple(array.shape)}", expected, advice)]


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
        row, *_, column = np.argwhere(~finite)[0]
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
