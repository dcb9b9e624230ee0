"""Checks that a data set still has the samples from which something stored was computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from trak_cli.errors import Problem
from trak_cli.plugins.samples import Indexed, sample_id
from trak_cli.types import evenly_spaced
from trak_cli.user_errors import report_user_errors

Array = np.ndarray[Any, Any]

#: Samples of each split whose digests are stored with a retrained model.
COMPARED_SAMPLES = 9


def sample_ids(dataset: Indexed, rows: Iterable[int]) -> dict[int, int]:
    """Row -> digest of the sample (:func:`~trak_cli.plugins.samples.sample_id`); rows past the end are left out."""
    ids = {}
    for row in rows:
        if row < len(dataset):
            with report_user_errors(f"dataset sample {row}", any_code=True):
                ids[row] = sample_id(dataset[row])
    return ids


def changed_sample(row: int, split: str, made: str) -> Problem:
    """The problem of a sample that is not the one from which ``made`` was computed."""
    expected = "the same samples in the same order (new ones only at the end)"
    remedy = "restore the old data set, or use another store"
    return Problem(f"sample {row} of {split}", f"different content than when {made}", expected, remedy)


def check_ends(split: str, dataset: Indexed, rows: Sequence[int], ids: Sequence[int], made: str) -> list[Problem]:
    """Compare the first and the last stored digest with the data set; to compare all would take a whole pass.

    Args:
        rows, ids: row numbers and digests as stored.
        made: completes "different content than when ...".

    Returns:
        A problem for the first sample that differs or is missing, or an empty list.
    """
    for row, stored in ((rows[0], ids[0]), (rows[-1], ids[-1])):
        if sample_ids(dataset, [row]).get(row) != stored:
            return [changed_sample(row, split, made)]
    return []


def sample_arrays(splits: Mapping[str, Indexed]) -> dict[str, Array]:
    """Digests of a few samples of every split, to be stored: ``rows_SPLIT`` int64 and ``sample_ids_SPLIT`` uint64."""
    arrays: dict[str, Array] = {}
    for split, dataset in splits.items():
        ids = sample_ids(dataset, evenly_spaced(len(dataset), COMPARED_SAMPLES).tolist())
        arrays[f"rows_{split}"] = np.array(list(ids), dtype=np.int64)
        arrays[f"sample_ids_{split}"] = np.array(list(ids.values()), dtype=np.uint64)
    return arrays


def changed_samples(stored: Mapping[str, Array], current: Mapping[str, Array], made: str) -> list[Problem]:
    """Compare two sets of arrays from :func:`sample_arrays`: a problem for the first sample of each split that differs."""
    problems = []
    for key in current:
        if key.startswith("sample_ids_") and key in stored:
            split = key.removeprefix("sample_ids_")
            rows = f"rows_{split}"
            before, now = (dict(zip(side[rows].tolist(), side[key].tolist(), strict=True)) for side in (stored, current))
            changed = sorted(row for row in before.keys() & now.keys() if before[row] != now[row])
            problems += [changed_sample(row, split, made) for row in changed[:1]]
    return problems
