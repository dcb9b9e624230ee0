"""What many members of the estimator family predict for subsets, from one pass over the features for each Gram matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trak_cli.attribution.estimator.rows import training_rows, unit_rows
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.threshold import soften, thresholds
from trak_cli.attribution.estimator.weights import Weights, add_rows, over_terms
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import Spectrum, decompose
from trak_cli.attribution.scores import equalize, front, lengths_of, target_factor
from trak_cli.attribution.search import groups, predictions_by_ridge, subset_sums
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.scoring.block_scorer import PreparedTargets
from trak_cli.stages.scoring.gram_store import find_gram, look_at_some, terms_of
from trak_cli.types import TRAIN, BoolArray, Float32, Float64, IntArray, Rows

#: Counts rows of training features that were read.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Question:
    """What is to be predicted: ``targets`` (t,) rows of ``split``, for subsets ``masks`` (s, n)."""

    split: str
    targets: IntArray
    masks: BoolArray


@dataclass(frozen=True)
class Ratios:
    """The q of one checkpoint that weighs the training samples: ``values`` (n,) float32.

    ``in_gram``: whether it weighs them in the Gram matrix too (it does not for weights "trajectory" where q does not follow
    from f; see :func:`weigh`). ``of_terms``: the Gram matrix is over single terms, where there are such.
    ``limit``: the length to which training features are clipped.
    """

    values: Float32
    in_gram: bool
    of_terms: bool
    limit: float

    def weights(self, spec: EstimatorSpec, rows: Rows) -> Weights:
        """What some rows count for in the Gram matrix."""
        values = self.values[rows.start : rows.stop].astype(np.float64)
        gram = np.abs(values) ** spec.gram_exponent if self.in_gram else np.ones(len(values))
        return Weights(gram, values, self.of_terms)


class RatiosOfStore:
    """The ratios of every checkpoint, (n,) float32 each, found once for each kind of weights."""

    def __init__(self, inventory: Inventory, progress: Progress) -> None:
        self._inventory = inventory
        self._progress = progress
        self._known: dict[_Kind, list[Ratios]] = {}

    def of(self, spec: EstimatorSpec) -> list[Ratios]:
        """One for each checkpoint."""
        key = _kind(spec)
        if key not in self._known:
            self._known[key] = [self._find(spec, name) for name in self._inventory.checkpoints]
        return self._known[key]

    def _find(self, spec: EstimatorSpec, checkpoint: str) -> Ratios:
        limit, trajectory = look_at_some(self._inventory, spec, checkpoint)
        parts = []
        for shard in self._inventory.read_all(checkpoint, TRAIN):
            if trajectory is None:
                parts.append(shard.out_to_loss)
            else:
                features = training_rows(spec, shard.features, limit)
                parts.append(trajectory.mean_ratio(features).astype(np.float32))
            self._progress(len(shard.rows))
        in_gram = trajectory is not None or not spec.follows_training
        return Ratios(np.concatenate(parts), in_gram, over_terms(spec, trajectory), limit)


#: What decides the ratios of an estimator: weights, unit length, clipping.
_Kind = tuple[str, bool, float]


def _kind(spec: EstimatorSpec) -> _Kind:
    return spec.weights, spec.unit_norm and spec.follows_training, spec.clip_norm


def passes(specs: Sequence[EstimatorSpec]) -> int:
    """How often :func:`scan` reads the training features of a checkpoint."""
    kinds = {_kind(spec) for spec in specs}
    by_scores = sum(3 if any(shares) else 2 for shares in _bases(specs).values())
    return len(groups([spec for spec in specs if _linear(spec)])) + by_scores + len(kinds)


def scan(
    inventory: Inventory, specs: Sequence[EstimatorSpec], question: Question, progress: Progress
) -> Iterator[tuple[EstimatorSpec, Float64]]:
    """(spec, Σ_{i∈S} score(i, j) as (t, s) float64) of every spec, those of one Gram matrix after each other.

    In memory: the predictions of one group, one k × k factorisation, the chosen targets of one checkpoint.

    Raises:
        StoreError: a shard is missing or damaged.
        ConfigError: a Gram matrix is singular with one of the ridges.
    """
    ratios = RatiosOfStore(inventory, progress)
    for group in groups([spec for spec in specs if _linear(spec)]):
        yield from _scan_group(inventory, group, ratios, question, progress).items()
    for base, shares in _bases(specs).items():
        for share, sums in _scan_by_scores(inventory, base, shares, ratios, question, progress):
            yield replace(base, soft_threshold=share), sums


def _linear(spec: EstimatorSpec) -> bool:
    """Whether the sum over a subset needs no scores."""
    return not (spec.shrinkage or spec.soft_threshold)


def _bases(specs: Sequence[EstimatorSpec]) -> dict[EstimatorSpec, list[float]]:
    """Estimator without threshold -> the shares that are wanted (0: none), of those whose sums need scores."""
    found: dict[EstimatorSpec, list[float]] = {}
    for spec in specs:
        if not _linear(spec):
            found.setdefault(replace(spec, soft_threshold=0.0), []).append(spec.soft_threshold)
    return found


def _scan_by_scores(
    inventory: Inventory,
    base: EstimatorSpec,
    shares: Sequence[float],
    ratios: RatiosOfStore,
    question: Question,
    progress: Progress,
) -> Iterator[tuple[float, Float64]]:
    """(share, sums of the scores with that threshold (t, s)), by the scores themselves, one shard after another."""
    factors = []
    for checkpoint, one in zip(inventory.checkpoints, ratios.of(base), strict=True):
        spectrum, _ = _pass(inventory, checkpoint, base, one, {}, question.masks, progress)
        ridge = 0.0 if spectrum is None else base.ridge_in(spectrum)
        factors.append(target_factor(base, _targets(inventory, checkpoint, question), spectrum, ridge, one.limit))
    prepared = PreparedTargets(inventory, base, equalize(base, factors), [one.values for one in ratios.of(base)])
    limits: dict[float, Float64 | None] = dict.fromkeys(shares)
    if any(shares):
        sample = prepared.reference_scores()
        progress(inventory.rows * len(inventory.checkpoints))
        limits = {share: thresholds(sample, share) if share else None for share in shares}
    sums = {share: np.zeros((len(question.targets), len(question.masks))) for share in shares}
    for index, rows in enumerate(inventory.shards(TRAIN)):
        scores, masks = prepared.scores(index), question.masks[:, rows.start : rows.stop].T.astype(np.float64)
        for share, limit in limits.items():
            sums[share] += (scores if limit is None else soften(scores, limit)).astype(np.float64) @ masks
        progress(len(rows) * len(inventory.checkpoints))
    yield from sums.items()


def _scan_group(
    inventory: Inventory, group: Sequence[EstimatorSpec], ratios: RatiosOfStore, question: Question, progress: Progress
) -> Mapping[EstimatorSpec, Float64]:
    shape = (len(question.targets), len(question.masks))
    totals = {spec: np.zeros(shape) for spec in group}
    lengths: dict[EstimatorSpec, list[Float64]] = {spec: [] for spec in group}
    fronts: dict[_Front, Float64] = {}
    for spec in group:
        fronts.setdefault(_front_of(spec), front(spec, [one.values for one in ratios.of(spec)]))
    count = len(inventory.checkpoints)
    for number, checkpoint in enumerate(inventory.checkpoints):
        own = {key: one[number] if one.ndim == 2 else one for key, one in fronts.items()}
        spectrum, sums = _pass(inventory, checkpoint, group[0], ratios.of(group[0])[number], own, question.masks, progress)
        targets = _targets(inventory, checkpoint, question)
        if group[0].unit_norm:
            targets = unit_rows(targets)
        for key, summed in sums.items():
            members = [spec for spec in group if _front_of(spec) == key]
            if spectrum is None:  # metric identity
                found = [(targets @ summed, lengths_of(targets, targets))] * len(members)
            else:
                ridges = [spec.ridge_in(spectrum) for spec in members]
                found = list(predictions_by_ridge(targets, summed, spectrum, ridges))
            for spec, (values, length) in zip(members, found, strict=True):
                # The mean of the lengths is known when all checkpoints have been seen.
                totals[spec] += (values / np.where(length > 0, length, 1.0) if spec.equal_targets else values) / count
                lengths[spec].append(length)
    for spec in group:
        if spec.equal_targets:
            totals[spec] *= np.mean(lengths[spec], axis=0)
    return totals


#: What decides the factor in front of a sample, within a group.
_Front = tuple[float, str]


def _front_of(spec: EstimatorSpec) -> _Front:
    return spec.front_exponent, spec.averaging


def _pass(
    inventory: Inventory,
    checkpoint: str,
    spec: EstimatorSpec,
    ratios: Ratios,
    fronts: Mapping[_Front, Float64],
    masks: BoolArray,
    progress: Progress,
) -> tuple[Spectrum | None, dict[_Front, Float64]]:
    """The spectrum that a group shares (one that the store has is taken), and c_S for every front."""
    filed = find_gram(inventory, spec, checkpoint) if spec.needs_gram else None
    total = GramSum(inventory.dim) if spec.needs_gram and filed is None else None
    sums = {key: np.zeros((inventory.dim, len(masks))) for key in fronts}
    for shard in inventory.read_all(checkpoint, TRAIN, with_terms=total is not None and spec.takes_terms):
        rows = slice(shard.rows.start, shard.rows.stop)
        features = training_rows(spec, shard.features, ratios.limit)
        if total is not None:
            add_rows(total, features, ratios.weights(spec, shard.rows), terms_of(shard))
        for key, one in fronts.items():
            sums[key] += subset_sums(features, one[rows], masks[:, rows])
        progress(len(shard.rows))
    if total is not None:
        return decompose(total.result()), sums
    return (None if filed is None else filed.spectrum), sums


def _targets(inventory: Inventory, checkpoint: str, question: Question) -> Float64:
    """The features of the chosen targets, (t, k)."""
    parts = []
    for index, rows in enumerate(inventory.shards(question.split)):
        inside = question.targets[(question.targets >= rows.start) & (question.targets < rows.stop)]
        if len(inside):
            parts.append(inventory.read(checkpoint, question.split, index).features[inside - rows.start])
    return np.concatenate(parts).astype(np.float64)
