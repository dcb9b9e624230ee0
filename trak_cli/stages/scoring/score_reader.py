"""Reading stored scores, dense or top-k."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trak_cli.attribution.topk import Extremes, TopBottom, TopK
from trak_cli.errors import ConfigError, Problem, StoreError
from trak_cli.store.container import read_image
from trak_cli.store.failures import foreign
from trak_cli.store.layout import Layout
from trak_cli.store.safety.records import (
    are_texts,
    is_count,
    is_mapping,
    is_text,
    require_fields,
    require_shapes,
    understanding,
)
from trak_cli.store.virtual import open_scores, read_fingerprint, score_blocks
from trak_cli.types import Float32, IntArray, Json, Rows

#: Fields of a fingerprint of scores that are used, besides being compared.
SCORES = {"rows": is_count, "targets": is_count, "split": is_text, "checkpoints": are_texts, "estimator": is_mapping}

_KEPT = ("top_rows", "top_scores", "bottom_rows", "bottom_scores")
_KEPT_SCORES = "the highest and lowest scores of each target"


def stored_scores(layout: Layout, estimator: str, split: str) -> tuple[Path, Json]:
    """The file of the scores of an estimator on a split, dense if there are both, and its fingerprint.

    Raises:
        StoreError: there are no scores, or the file is damaged.
    """
    dense, kept = layout.scores(estimator, split), layout.scores_top(estimator, split)
    path = dense if dense.exists() else kept
    if not path.exists():
        raise no_scores(layout, estimator, split)
    return path, require_fields(path, read_fingerprint(path), SCORES, "the fingerprint of scores")


def read_extremes(layout: Layout, estimator: str, split: str, rows: Sequence[int], k: int) -> list[TopBottom]:
    """The k highest and lowest scores in some rows of the dense or the top-k scores; with fewer than k training rows, all
    scores.

    Args:
        rows: rows of the scores: for scores of chosen targets, their positions among these.

    Raises:
        StoreError: there are no scores.
        ConfigError: fewer than k were kept.
    """
    dense = layout.scores(estimator, split)
    if dense.exists():
        found: dict[int, TopBottom] = {}
        for places, blocks in read_rows(dense, rows):
            best = TopK(len(places), k)
            with understanding(dense, "finite scores"):
                for train, scores in blocks:
                    best.update(scores, train.start)
            found |= zip(places.tolist(), best.result().each(), strict=True)
        return [found[place] for place in range(len(rows))]
    kept = layout.scores_top(estimator, split)
    ends, training = read_kept(layout, estimator, split)
    available = ends.top.indices.shape[1]
    if min(k, training) > available:
        remedy = f"give -k {available}, or keep more when you score (score.top_k, refine.candidates)"
        raise ConfigError(Problem("-k", str(k), f"at most {available}, as many as {kept} keeps", remedy))
    some = np.asarray(rows, np.int64)
    return TopBottom(*(Extremes(end.indices[some, :k], end.values[some, :k]) for end in (ends.top, ends.bottom))).each()


def read_kept(layout: Layout, estimator: str, split: str) -> tuple[TopBottom, int]:
    """All highest and lowest scores that are stored instead of dense ones, and the number of training rows.

    Raises:
        StoreError: there are none, or the file is damaged.
    """
    path = layout.scores_top(estimator, split)
    if not path.exists():
        raise no_scores(layout, estimator, split)
    image = read_image(path)
    require_fields(path, image.fingerprint, SCORES, "the fingerprint of scores")
    training = int(image.fingerprint["rows"])
    matrices: dict[str, tuple[int | None, ...]] = dict.fromkeys(_KEPT, (None, None))
    require_shapes(path, image.shapes, matrices, _KEPT_SCORES)
    rows = [image.arrays[f"{end}_rows"] for end in ("top", "bottom")]
    inside = all(one.dtype == np.int64 and one.min(initial=0) >= 0 and one.max(initial=0) < training for one in rows)
    if not inside or len({image.shapes[name] for name in _KEPT}) > 1:
        raise foreign(path, f"shapes {image.shapes}, or rows outside {training} training rows", _KEPT_SCORES)
    return TopBottom.of(image.arrays), training


def read_rows(path: Path, rows: Sequence[int]) -> Iterator[tuple[IntArray, Iterator[tuple[Rows, Float32]]]]:
    """Some rows of dense scores, every file read once.

    Yields:
        For each block of targets with one of ``rows``: places (m,) in ``rows``, and the scores of these rows, shard by shard:
        (training rows, (m, their number)). Read them before the next block.

    Raises:
        MissingError, DamagedError, ForeignError, MachineError: for ``path`` or a file that it lists.
    """
    whole, wanted = open_scores(path), np.asarray(rows, np.int64)
    for start, stop in sorted({(source.targets.start, source.targets.stop) for source, _ in whole.sources}):
        places = np.flatnonzero((wanted >= start) & (wanted < stop))
        if places.size:
            span = Rows(int(wanted[places].min()), int(wanted[places].max()) + 1)
            within = wanted[places] - span.start
            yield places, ((train, block[within]) for _, train, block in score_blocks(whole, span))


def no_scores(layout: Layout, estimator: str, split: str) -> StoreError:
    """The error for missing scores, or for dense scores if only top-k scores are stored."""
    where, kept = f"scores of estimator {estimator} on split {split}", layout.scores_top(estimator, split)
    if kept.exists():
        found = f"only the highest and lowest of each target, in {kept} (score.top_k)"
        remedy = "run trak score score.top_k=null under another name (estimator.name=NAME), or with score.overwrite=true"
        return StoreError(Problem(where, found, "dense scores, of every training row", remedy))
    known = ", ".join(f"{one}/{s}" for one in layout.estimators() for s in layout.scored_splits(one))
    expected = f"complete scores (there are: {known or 'none'})"
    remedy = "run trak score with this estimator and split first"
    return StoreError(Problem(where, "none that are complete", expected, remedy))


def outdated_scores(path: Path, found: tuple[int, int], expected: tuple[int, int]) -> StoreError:
    """The error for scores of a split or a training set that has grown since."""
    now = f"(targets, training rows) = {expected}, as the store has them now"
    remedy = "run trak finalize and trak score score.overwrite=true"
    return StoreError(Problem(str(path), f"scores of shape {found}", now, remedy))
