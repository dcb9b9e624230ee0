"""Of which samples a ground truth was made: digests of a few rows of every split, beside its masks and outputs.

They are no part of the fingerprint, for there are ground truths without them; those are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trak_cli.plugins import sample_id
from trak_cli.stages.parts import probes

Array = np.ndarray[Any, Any]


def sample_arrays(splits: Mapping[str, Any]) -> dict[str, Array]:
    """For every split ``rows_SPLIT``, a few rows with both ends among them, and ``sample_ids_SPLIT``, their digests."""
    arrays: dict[str, Array] = {}
    for name, dataset in splits.items():
        rows = probes(len(dataset))
        arrays[f"rows_{name}"] = np.array(rows, dtype=np.int64)
        arrays[f"sample_ids_{name}"] = np.array([sample_id(dataset[row]) for row in rows], dtype=np.uint64)
    return arrays


def changed_samples(before: Mapping[str, Array], now: Mapping[str, Array]) -> list[str]:
    """The first sample of each split that differs, in words; splits and rows without a digest on both sides are passed over."""
    changed = []
    for key in now:
        if key.startswith("sample_ids_") and key in before:
            split = key.removeprefix("sample_ids_")
            old, new = (dict(zip(side[f"rows_{split}"].tolist(), side[key].tolist(), strict=True)) for side in (before, now))
            changed += [f"sample {row} of {split}" for row in sorted(old.keys() & new.keys()) if old[row] != new[row]][:1]
    return changed
