"""Resuming a store with data sets in memory, which have no name: every sample is compared."""

from __future__ import annotations

from collections.abc import Mapping

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.samples import Indexed
from trak_cli.stages.inputs.sample_identity import changed_sample, sample_ids
from trak_cli.store.layout import Layout
from trak_cli.store.shards import inspect_features
from trak_cli.types import Reporter, Rows


def check_samples(layout: Layout, splits: Mapping[str, Indexed], reporter: Reporter) -> None:
    """Compare the samples with those whose features are stored. Rows that only one side has are left to featurize.

    Raises:
        InputError: a sample has another content; the first one of each split is named.
    """
    shards = {
        (split, number): layout.features(checkpoint, split, number)
        for checkpoint in layout.checkpoints()[:1]  # featurize computes all of them from the same samples
        for split in splits
        for number in layout.shards(checkpoint, split)
    }
    problems: dict[str, Problem] = {}
    if not shards:
        return
    with reporter.meter("compare samples", len(shards), "shards") as meter:
        for (split, _), path in shards.items():
            stored = inspect_features(path, None, None)
            if stored.rows is not None and stored.sample_ids is not None and split not in problems:
                row = _first_changed(splits[split], stored.rows, stored.sample_ids.tolist())
                if row is not None:
                    problems[split] = changed_sample(row, split, "its features were made")
            meter.advance()
    InputError.raise_for(problems.values())


def _first_changed(data: Indexed, rows: Rows, stored: list[int]) -> int | None:
    present = sample_ids(data, rows)
    return next((row for row, digest in zip(rows, stored, strict=True) if present.get(row, digest) != digest), None)
