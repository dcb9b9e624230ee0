"""Ground truths of other programs, as the masks and outputs that ``lds.ground_truth`` reads.

- dattri: what ``calculate_lds_ground_truth`` and ``calculate_loo_ground_truth`` return, in a file of torch.save: the values
  (models, targets), and the training rows of every subset (models, size) or the row that every model lacks (models,). The
  former has its sign turned by dattri already; the latter are values of the user's target function.
- MadryLab/trak: a folder with ``mask.npy`` (models, n) and ``val_margins.npy`` (models, targets), as in its examples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.archive import read_archive
from trak_cli.plurals import counted
from trak_cli.results.exchange.contract import unreadable
from trak_cli.stages.evaluation.user_arrays import read_array_file
from trak_cli.types import AnyArray, BoolArray, Float32


def read_truth(path: Path, rows: int | None) -> tuple[BoolArray, Float32, str]:
    """The masks (models, n) of training sets, the outputs (models, targets), and what kind of ground truth it is.

    Args:
        rows: n, which the file of dattri does not have.

    Raises:
        InputError: the file is none of these, or its numbers do not fit.
    """
    if path.is_dir():
        return _of_folder(path)
    content = read_archive(path)
    if not isinstance(content, tuple | list) or len(content) != 2 or not all(isinstance(one, torch.Tensor) for one in content):
        raise unreadable(path, f"a {type(content).__name__}", "the two tensors of a ground truth of dattri: (values, indices)")
    values, indices = (one.detach().cpu().double().numpy() for one in content)
    if rows is None:
        found = "a ground truth that does not say how many training rows there are"
        raise InputError(Problem(str(path), found, "that number", "import the scores into the same store first"))
    if values.ndim != 2 or not 1 <= indices.ndim <= 2 or len(values) != len(indices):
        found = f"values of shape {values.shape}, indices of shape {indices.shape}"
        raise unreadable(path, found, "(models, targets), and (models,) or (models, size)")
    if (indices % 1 != 0).any() or indices.min(initial=0) < 0 or indices.max(initial=0) >= rows:
        raise unreadable(path, f"indices from {indices.min():g} to {indices.max():g}", f"training rows 0 to {rows - 1}")
    left_out = indices.ndim == 1
    masks = np.full((len(values), rows), left_out)
    masks[np.arange(len(values))[:, None], indices.reshape(len(values), -1).astype(np.int64)] = not left_out
    kind = "each model lacks one row" if left_out else "random subsets"
    return masks, values.astype(np.float32), kind


def _of_folder(path: Path) -> tuple[BoolArray, Float32, str]:
    arrays = {}
    for name in ("mask", "val_margins"):
        arrays[name] = read_array_file(path / f"{name}.npy", (name,))[name]
        _require_matrix(path / f"{name}.npy", arrays[name])
    masks, outputs = arrays["mask"], arrays["val_margins"]
    if len(masks) != len(outputs):
        raise unreadable(
            path, f"{counted(len(masks), 'mask')} and margins of {counted(len(outputs), 'model')}", "as many of both"
        )
    if not ((masks == 0) | (masks == 1)).all():
        raise unreadable(path / "mask.npy", "values other than 0 and 1", "1 where a model was trained on the row")
    return masks.astype(np.bool_), outputs.astype(np.float32), "random subsets"


def _require_matrix(path: Path, array: AnyArray) -> None:
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise unreadable(path, f"{array.dtype} of shape {array.shape}", "a matrix of numbers")
