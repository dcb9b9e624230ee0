"""What many members of the estimator family predict for subsets, from one pass over the features for each Gram matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trak_cli.attribution.estimator.rows import training_rows, unit_rows
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.threshold import soften, thresholds
from trak_cli.attribution.estimator.weights import Weights, add_rows, is_over_terms, weigh
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import Spectrum, decompose
from trak_cli.attribution.scores import normalize_targets, sample_weight, target_factor
from trak_cli.attribution.search import groups, subset_sums
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.scoring.block_scorer import PreparedTargets
from trak_cli.stages.scoring.gram_store import find_gram
from trak_cli.stages.scoring.gram_sums import curvature_rows, estimate_weighting
from trak_cli.types import TRAIN, Float32, Float64, IntArray, Rows, SubsetWeights

#: Called with the number of rows of training features that were read.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class SubsetQuery:
    """What is predicted: the summed scores of ``targets`` (t,), rows of ``split``, for subsets ``weights`` (s, n)."""

    split: str
    targets: IntArray
    weights: SubsetWeights


@dataclass(frozen=True)
class Weighting:
    """How one checkpoint weights the training samples.

    Attributes:
        q: (n,) float32, the q that weights the samples: final, or averaged over the beginning of training.
        in_gram: whether q weights them in the Gram matrix too. It does not for weights "early_training" if nothing could be
            simulated (see :func:`~trak_cli.attribution.estimator.weights.weigh`).
        of_terms: the Gram matrix is over single terms, if samples have any.
        clip_threshold: the length to which training features are clipped; infinite for none.
    """

    q: Float32
    in_gram: bool
    of_terms: bool
    clip_threshold: float

    def weights(self, spec: EstimatorSpec, rows: Rows) -> Weights:
        """The weights of some rows."""
        q = self.q[rows.start : rows.stop].astype(np.float64)
        gram = np.abs(q) ** spec.gram_exponent if self.in_gram else np.ones(len(q))
        return Weights(gram, q, self.of_terms)


#: The fields of an estimator that determine its weighting: weights, unit length, clipping.
_WeightingKey = tuple[str, bool, float]

#: The fields that determine sample weights, among estimators with one weighting.
_SampleWeightKey = tuple[float, str]


def _weighting_key(spec: EstimatorSpec) -> _WeightingKey:
    return spec.weights, spec.unit_norm and spec.simulates_training, spec.clip_norm


def _sample_weight_key(spec: EstimatorSpec) -> _SampleWeightKey:
    return spec.weight_exponent, spec.averaging


def passes(specs: Sequence[EstimatorSpec]) -> int:
    """How often :func:`scan` reads the training features of a checkpoint."""
    weightings = {_weighting_key(spec) for spec in specs}
    by_scores = sum(3 if any(shares) else 2 for shares in _by_scores(specs).values())
    return len(groups([spec for spec in specs if _is_linear(spec)])) + by_scores + len(weightings)


def scan(
    inventory: Inventory, specs: Sequence[EstimatorSpec], query: SubsetQuery, progress: Progress
) -> Iterator[tuple[EstimatorSpec, Float64]]:
    """(spec, Σ_{i∈S} score(i, j) as (t, s) float64) of every spec; specs that share a Gram matrix follow each other.

    Memory: the predictions of one group, one k × k factorisation, the chosen targets of one checkpoint.

    Raises:
        StoreError: a shard is missing or damaged.
        ConfigError: a Gram matrix is singular with one of the ridges.
    """
    search = _Scan(inventory, query, progress)
    for group in groups([spec for spec in specs if _is_linear(spec)]):
        yield from search.of_group(group).items()
    for base, shares in _by_scores(specs).items():
        for share, sums in search.by_scores(base, shares):
            yield replace(base, soft_threshold=share), sums


def _is_linear(spec: EstimatorSpec) -> bool:
    """Whether the sum over a subset can be computed without scores."""
    return not (spec.shrinkage or spec.soft_threshold)


def _by_scores(specs: Sequence[EstimatorSpec]) -> dict[EstimatorSpec, list[float]]:
    """Of the estimators whose sums need scores: estimator without soft threshold -> its soft thresholds (0: none)."""
    shares: dict[EstimatorSpec, list[float]] = {}
    for spec in specs:
        if not _is_linear(spec):
            shares.setdefault(replace(spec, soft_threshold=0.0), []).append(spec.soft_threshold)
    return shares


class _Scan:
    """One search over a store; keeps the weighting of every checkpoint, (n,) float32, for each kind of weighting."""

    def __init__(self, inventory: Inventory, query: SubsetQuery, progress: Progress) -> None:
        self._inventory = inventory
        self._query = query
        self._progress = progress
        self._weightings: dict[_WeightingKey, list[Weighting]] = {}

    def weightings(self, spec: EstimatorSpec) -> list[Weighting]:
        """The weighting under each checkpoint."""
        key = _weighting_key(spec)
        if key not in self._weightings:
            self._weightings[key] = [self._weighting(spec, name) for name in self._inventory.checkpoints]
        return self._weightings[key]

    def _weighting(self, spec: EstimatorSpec, checkpoint: str) -> Weighting:
        clip_threshold, training = estimate_weighting(self._inventory, spec, checkpoint)
        over_terms = is_over_terms(spec, training)
        with_curvature = training is not None and spec.uses_curvature and not over_terms  # terms affect no weight
        parts = []
        for shard in self._inventory.read_all(checkpoint, TRAIN, with_curvature):
            features = shard.features if training is None else training_rows(spec, shard.features, clip_threshold)
            weights = weigh(spec, training, features, shard.out_to_loss, curvature_rows(shard))
            parts.append(weights.sample.astype(np.float32))
            self._progress(len(shard.rows))
        in_gram = training is not None or not spec.simulates_training
        return Weighting(np.concatenate(parts), in_gram, over_terms, clip_threshold)

    def of_group(self, group: Sequence[EstimatorSpec]) -> dict[EstimatorSpec, Float64]:
        """The predictions (t, s) of estimators that share their rows and their Gram matrix."""
        shape = (len(self._query.targets), len(self._query.weights))
        totals = {spec: np.zeros(shape) for spec in group}
        lengths: dict[EstimatorSpec, list[Float64]] = {spec: [] for spec in group}
        weights: dict[_SampleWeightKey, Float64] = {}
        for spec in group:
            q = [weighting.q for weighting in self.weightings(spec)]
            weights.setdefault(_sample_weight_key(spec), sample_weight(spec, q))
        count = len(self._inventory.checkpoints)
        for number, checkpoint in enumerate(self._inventory.checkpoints):
            own = {key: weight[number] if weight.ndim == 2 else weight for key, weight in weights.items()}
            spectrum, sums = self._pass(number, group[0], own)
            targets = self._targets(checkpoint)
            if group[0].unit_norm:
                targets = unit_rows(targets)
            for spec, (values, length) in _predictions(group, targets, sums, spectrum):
                # The mean of the lengths is known only after the last checkpoint.
                totals[spec] += (values / np.where(length > 0, length, 1.0) if spec.normalize_targets else values) / count
                lengths[spec].append(length)
        for spec in group:
            if spec.normalize_targets:
                totals[spec] *= np.mean(lengths[spec], axis=0)
        return totals

    def by_scores(self, base: EstimatorSpec, shares: Sequence[float]) -> Iterator[tuple[float, Float64]]:
        """(share, sums (t, s) of the scores with that soft threshold), from the scores of one shard after another."""
        factors = []
        weightings = self.weightings(base)
        for number, checkpoint in enumerate(self._inventory.checkpoints):
            spectrum, _ = self._pass(number, base, {})
            ridge = 0.0 if spectrum is None else base.ridge_in(spectrum)
            factors.append(target_factor(base, self._targets(checkpoint), spectrum, ridge, weightings[number].clip_threshold))
        q = [weighting.q for weighting in weightings]
        prepared = PreparedTargets(self._inventory, base, normalize_targets(base, factors), q)
        limits: dict[float, Float64 | None] = dict.fromkeys(shares)
        if any(shares):
            sample = prepared.reference_scores()
            self._progress(self._inventory.rows * len(factors))
            limits = {share: thresholds(sample, share) if share else None for share in shares}
        sums = {share: np.zeros((len(self._query.targets), len(self._query.weights))) for share in shares}
        for index, rows in enumerate(self._inventory.shards(TRAIN)):
            scores = prepared.scores(index)
            weights = self._query.weights[:, rows.start : rows.stop].T.astype(np.float64)
            for share, limit in limits.items():
                sums[share] += (scores if limit is None else soften(scores, limit)).astype(np.float64) @ weights
            self._progress(len(rows) * len(factors))
        yield from sums.items()

    def _pass(
        self, number: int, spec: EstimatorSpec, weights: Mapping[_SampleWeightKey, Float64]
    ) -> tuple[Spectrum | None, dict[_SampleWeightKey, Float64]]:
        """The spectrum of a group under one checkpoint (a stored one is reused), and c_S for every kind of sample weight."""
        checkpoint, weighting = self._inventory.checkpoints[number], self.weightings(spec)[number]
        stored = find_gram(self._inventory, spec, checkpoint) if spec.needs_gram else None
        total = GramSum(self._inventory.dim) if spec.needs_gram and stored is None else None
        subsets = self._query.weights
        sums = {key: np.zeros((self._inventory.dim, len(subsets))) for key in weights}
        for shard in self._inventory.read_all(checkpoint, TRAIN, with_curvature=total is not None and spec.uses_curvature):
            rows = slice(shard.rows.start, shard.rows.stop)
            features = training_rows(spec, shard.features, weighting.clip_threshold)
            if total is not None:
                add_rows(total, features, weighting.weights(spec, shard.rows), curvature_rows(shard), shard.outputs)
            for key, weight in weights.items():
                sums[key] += subset_sums(features, weight[rows], subsets[:, rows])
            self._progress(len(shard.rows))
        if total is not None:
            return decompose(total.result()), sums
        return (None if stored is None else stored.spectrum), sums

    def _targets(self, checkpoint: str) -> Float64:
        """The features of the chosen targets, (t, k)."""
        split, targets = self._query.split, self._query.targets
        parts = []
        for index, rows in enumerate(self._inventory.shards(split)):
            inside = targets[(targets >= rows.start) & (targets < rows.stop)]
            if len(inside):
                parts.append(self._inventory.read(checkpoint, split, index).features[inside - rows.start])
        return np.concatenate(parts).astype(np.float64)


def _predictions(
    group: Sequence[EstimatorSpec], targets: Float64, sums: Mapping[_SampleWeightKey, Float64], spectrum: Spectrum | None
) -> Iterator[tuple[EstimatorSpec, tuple[Float64, Float64]]]:
    """(spec, (sums of scores (t, s), lengths of the targets (t, 1))) under one checkpoint."""
    together: dict[tuple[str, _SampleWeightKey], list[EstimatorSpec]] = {}
    for spec in group:
        together.setdefault((spec.metric, _sample_weight_key(spec)), []).append(spec)
    for (_, key), specs in together.items():
        ridges = [0.0 if spectrum is None else spec.ridge_in(spectrum) for spec in specs]
        yield from zip(specs, specs[0].metric_rule.subset_sums(targets, sums[key], spectrum, ridges), strict=True)
