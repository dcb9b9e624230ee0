"""How many of the truly highest and lowest scores are among the candidates: measured by a pass over all features.

For some targets, the rows with the most extreme exact scores are found, and their ranks by approximate score are stored. N
candidates contain those of rank below N, so one measurement gives the recall of any number of candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.topk import Extremes, TopK
from trak_cli.stages.compressing.candidates import CompressedScorer
from trak_cli.stages.compressing.compressed_store import CompressedStore
from trak_cli.stages.index.fingerprints import scores_fingerprint
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.scoring.block_scorer import prepare_targets
from trak_cli.store.container import read_image
from trak_cli.store.failures import DamagedError, MissingError, foreign
from trak_cli.store.fingerprint import canonical
from trak_cli.store.layout import Layout
from trak_cli.store.publish import write_image
from trak_cli.store.safety.records import require_shapes
from trak_cli.types import TRAIN, Float32, IntArray, Json, Reporter, Rows, evenly_spaced

#: Number of targets, and of their highest and lowest scores, that are looked for.
TARGETS, MOST = 32, 100


@dataclass(frozen=True)
class Recall:
    """The ranks by approximate score of the rows with the highest and lowest exact scores.

    Attributes:
        split: of the targets.
        ranks: (targets, 2, m) int64: from 0, for the highest scores and for the lowest, the most extreme first.
    """

    split: str
    ranks: IntArray

    def of(self, k: int, candidates: int) -> float:
        """The share of the k highest and k lowest scores that this many candidates of each end contain; at most m count."""
        return float((self.ranks[:, :, :k] < candidates).mean())


def measured_split(layout: Layout) -> str:
    """The split whose targets the recall is measured with: the first target split of the store, or the training set."""
    return next((name for name in layout.described_splits() if name != TRAIN), TRAIN)


def find_recall(store: CompressedStore, estimator: EstimatorSpec) -> Recall | None:
    """The stored measurement for an estimator; None if there is none of these features, or a damaged file.

    Raises:
        ForeignError: the file holds something else.
    """
    layout = store.inventory.layout
    path, split = layout.compressed_recall(estimator.name), measured_split(layout)
    try:
        image = read_image(path)
    except (MissingError, DamagedError):
        return None
    if canonical(image.fingerprint) != canonical(recall_fingerprint(store, estimator, split)):
        return None
    require_shapes(path, image.shapes, {"ranks": (None, 2, None)}, "ranks of scores")
    if image.dtypes["ranks"] != "int64":
        raise foreign(path, f"ranks of {image.dtypes['ranks']}", "ranks of scores")
    return Recall(split, image.arrays["ranks"])


def measure_recall(store: CompressedStore, estimator: EstimatorSpec, reporter: Reporter) -> Recall:
    """Measure the recall of candidates with targets of the first target split (else with training rows), and store it.

    Raises:
        StoreError: features, Gram matrices or compressed features are missing, damaged or another run's.
    """
    inventory, split = store.inventory, measured_split(store.inventory.layout)
    chosen = evenly_spaced(rows_of(inventory.layout, split), TARGETS)
    plain = replace(estimator, soft_threshold=0.0)  # which would make many scores equal
    targets = prepare_targets(inventory, plain, lambda name: _features(inventory, name, split, chosen))
    own = chosen if split == TRAIN else None
    best = TopK(len(chosen), min(MOST + 1, inventory.rows))
    with reporter.meter("recall", 2 * inventory.rows, "training rows") as meter:
        for rows, scores in targets.stream(Rows(0, inventory.rows)):
            best.update(scores, rows.start)
            meter.advance(len(rows))
        ends = best.result()
        scorer = CompressedScorer.of(targets, store)
        ranks = _ranks(scorer, [_without(end, own) for end in (ends.top, ends.bottom)], own, meter.advance)
    path = inventory.layout.compressed_recall(estimator.name)
    write_image(path, {"ranks": ranks}, recall_fingerprint(store, estimator, split), provenance(), overwrite=path.exists())
    return Recall(split, ranks)


def _ranks(scorer: CompressedScorer, ends: list[IntArray], own: IntArray | None, progress: Callable[[int], None]) -> IntArray:
    """The ranks (targets, 2, m) by approximate score of the rows (targets, m) of both ends."""
    values = [sign * _scores_at(scorer, rows) for sign, rows in zip((1, -1), ends, strict=True)]
    order = [np.argsort(one, axis=1) for one in values]
    ascending = [np.take_along_axis(one, places, 1) for one, places in zip(values, order, strict=True)]
    above = np.zeros((len(ends[0]), 2, ends[0].shape[1] + 1), np.int64)
    for number in range(len(scorer.store.parts)):
        for rows, scores in scorer.blocks(number):
            for end, sign in enumerate((1, -1)):
                for target, least in enumerate(ascending[end]):
                    signed = sign * scores[target]
                    if own is not None and rows.start <= own[target] < rows.stop:
                        signed[own[target] - rows.start] = -np.inf
                    lower = np.searchsorted(least, signed[signed > least[0]])  # values that are lower than each of these
                    above[target, end] += np.bincount(lower, minlength=above.shape[2])
            progress(len(rows))
    higher = above[:, :, ::-1].cumsum(axis=2)[:, :, ::-1][:, :, 1:]  # rows with a higher score than each value
    ranks = np.empty_like(higher)
    for end, places in enumerate(order):
        np.put_along_axis(ranks[:, end], places, higher[:, end], 1)
    return ranks


def _scores_at(scorer: CompressedScorer, rows: IntArray) -> Float32:
    """The approximate scores of each target on its rows (targets, m)."""
    found = np.empty(rows.shape, np.float32)
    for number, part in enumerate(scorer.store.parts):
        inside = (rows >= part.start) & (rows < part.stop)
        if inside.any():
            some, place = np.unique(rows[inside], return_inverse=True)
            found[inside] = scorer.scores(number, some)[np.nonzero(inside)[0], place]
    return found


def _without(end: Extremes, own: IntArray | None) -> IntArray:
    """The rows (targets, m) of one end; a training row is not compared with itself."""
    if own is None:
        return end.indices[:, :MOST]
    most = min(MOST, end.indices.shape[1] - 1)
    return np.stack([rows[rows != row][:most] for rows, row in zip(end.indices, own, strict=True)])


def _features(inventory: Inventory, checkpoint: str, split: str, rows: IntArray) -> Float32:
    """Features of some rows of a split."""
    shards = inventory.read_some(checkpoint, split, inventory.shards_with(split, rows))
    return np.concatenate(
        [shard.features[rows[(rows >= shard.rows.start) & (rows < shard.rows.stop)] - shard.rows.start] for shard in shards]
    )


def recall_fingerprint(store: CompressedStore, estimator: EstimatorSpec, split: str) -> Json:
    """The fingerprint of a measurement; ``split``: :func:`measured_split`.

    Raises:
        StoreError: a checkpoint has no basis.
    """
    inventory = store.inventory
    features, targets = list(inventory.features.values()), rows_of(inventory.layout, split)
    scores = scores_fingerprint(estimator, features, inventory.rows, split, targets, MOST)
    return scores | {"kind": "recall", "measured": TARGETS, "bases": store.fingerprint()}
