"""The training rows that had the largest effect on a target together, from shards and finalised Gram matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trak_cli.attribution import Candidates, EstimatorSpec, TargetFactor, choose_group, front, products, unit_rows
from trak_cli.errors import ConfigError, Problem
from trak_cli.stages.grams import Finalized, require_gram
from trak_cli.stages.inventory import Inventory
from trak_cli.stages.parts import TRAIN
from trak_cli.stages.score_blocks import PreparedTargets, prepare_targets
from trak_cli.types import Float64, FloatArray, IntArray, Rows

#: The group is chosen among the rows with the highest scores: so many, or so many times the size of the group.
CANDIDATES, TIMES = 1000, 4


@dataclass(frozen=True)
class GroupRows:
    """Training rows that were chosen together: see :class:`trak_cli.attribution.Group`."""

    rows: list[int]
    scores: list[float]
    effect: float


def candidates_for(size: int, rows: int) -> int:
    """Among how many of the highest scores a group of ``size`` is chosen."""
    return min(rows, max(CANDIDATES, TIMES * size))


def refuse(estimator: EstimatorSpec, size: int, rows: int) -> None:
    """Make sure that the estimator knows what samples do together.

    Raises:
        ConfigError: it has no Gram matrix, a threshold, or the group would be all that there is.
    """
    problems = []
    if not estimator.needs_gram:
        remedy = "leave out --together, or choose another estimator, such as trajectory"
        problems.append(Problem("--together", f"estimator {estimator.name}, which has no Gram matrix", "one that has", remedy))
    if estimator.soft_threshold:
        found = f"estimator.soft_threshold={estimator.soft_threshold:g}"
        problems.append(Problem("--together", found, "an estimator without a threshold", "set estimator.soft_threshold=0"))
    if size >= rows:
        found = f"{size} of {rows} training rows"
        problems.append(Problem("--together", found, f"at most {rows - 1}", "choose a smaller group"))
    if problems:
        raise ConfigError(problems)


def group_of(inventory: Inventory, estimator: EstimatorSpec, split: str, target: int, among: IntArray, size: int) -> GroupRows:
    """The ``size`` rows of ``among`` without which the target's output falls the most.

    Memory: twice candidates × k float64, and twice candidates² for every checkpoint.

    Raises:
        StoreError: a shard or a Gram matrix is missing, damaged or another run's.
    """
    prepared = prepare_targets(inventory, estimator, split, Rows(target, target + 1))
    every, ratios = [], []
    for checkpoint, factor in zip(inventory.checkpoints, prepared.factors, strict=True):
        one, ratio = _of_checkpoint(prepared, checkpoint, factor, np.sort(among))
        every.append(one)
        ratios.append(ratio)
    found = choose_group(every, front(estimator, ratios), size)
    return GroupRows(np.sort(among)[found.chosen].tolist(), found.scores.tolist(), found.effect)


def _of_checkpoint(
    prepared: PreparedTargets, checkpoint: str, factor: TargetFactor, among: IntArray
) -> tuple[Candidates, FloatArray]:
    """What a checkpoint says of the candidates, and their ratios for the front."""
    estimator = prepared.estimator
    finalized = require_gram(prepared.inventory, estimator, checkpoint)
    spectrum, ridge = finalized.spectrum, estimator.ridge_in(finalized.spectrum)
    target = (factor.rows * factor.scale)[0].astype(np.float64)
    X, Z, ratios = _rows_of(prepared.inventory, estimator, checkpoint, finalized, among)
    score = X @ target
    if Z is not None:
        return Candidates(score, Z @ target, products(spectrum, ridge, Z, X), products(spectrum, ridge, Z, Z)), ratios
    root, kernel = np.sqrt(finalized.weights(estimator, ratios)), products(spectrum, ridge, X, X)
    return Candidates(score, root * score, root[:, None] * kernel, root[:, None] * kernel * root), ratios


def _rows_of(
    inventory: Inventory, estimator: EstimatorSpec, checkpoint: str, finalized: Finalized, among: IntArray
) -> tuple[Float64, Float64 | None, FloatArray]:
    """Of the candidates: features x; features of their terms, where the Gram matrix is over such; ratios for the front."""
    features, terms, ratios = [], [], []
    for index, rows in enumerate(inventory.shards(TRAIN)):
        some = among[(among >= rows.start) & (among < rows.stop)] - rows.start
        if not len(some):
            continue
        shard = inventory.read(checkpoint, TRAIN, index, with_terms=finalized.of_terms)
        features.append(shard.features[some].astype(np.float64))
        ratios.append(shard.out_to_loss[some] if finalized.front is None else finalized.front[rows.start + some])
        if finalized.of_terms:
            assert shard.term_features is not None, "the Gram matrix is over terms"
            terms.append(shard.term_features[some].astype(np.float64))
    X = np.concatenate(features)
    return unit_rows(X) if estimator.unit_norm else X, np.concatenate(terms) if terms else None, np.concatenate(ratios)
