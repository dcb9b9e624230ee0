"""Model randomization: how much scores agree with those of a model with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from trak_cli.attribution.metrics.correlations import randomization_correlations
from trak_cli.errors import InputError, Problem
from trak_cli.plurals import counted
from trak_cli.results.evaluation.contract import Evaluated, Metric
from trak_cli.results.scored import open_scored

_SCORES_AT_ONCE = 8_000_000


def model_randomization(evaluated: Evaluated, store: Path) -> list[Metric]:
    """The mean over targets of the rank correlation of the scores with those of the same estimator in another store."""
    scored, loaded = evaluated.scored, evaluated.loaded
    if not store.is_dir():
        found = f"{store}, which is no folder"
        remedy = "run featurize, finalize and score with random weights in a store of its own (store=…)"
        raise InputError(Problem("--randomized", found, "the store of a model with random weights", remedy))
    other = open_scored(replace(loaded, config=replace(loaded.config, store=str(store))), scored.split)
    if (other.rows, list(other.target_rows), other.group) != (scored.rows, list(scored.target_rows), scored.group):
        found = f"scores of {counted(len(other.target_rows), 'target')} and {counted(other.rows, 'training row')}"
        expected = f"{len(scored.target_rows)} and {scored.rows}, the same as in {scored.layout.root}"
        raise InputError(Problem(f"--randomized {store}", found, expected, "score the same samples in both stores"))
    at_once = max(1, _SCORES_AT_ONCE // scored.rows)
    pairs = zip(scored.blocks(at_once), other.blocks(at_once), strict=True)
    correlations = np.concatenate([randomization_correlations(mine, theirs) for (_, mine), (_, theirs) in pairs])
    rows = list(scored.target_rows) if scored.group is None else [-1]
    return [evaluated.mean("model randomization (rank correlation)", correlations, rows, 0.0)]
