"""Reading stored scores, dense or top-k."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trak_cli.attribution.topk import Extremes, TopBottom, TopK
from trak_cli.errors import ConfigError, Problem, StoreError
from trak_cli.store.container import read_image
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_fingerprint, read_scores
from trak_cli.types import Float32, Json, Rows


def stored_scores(layout: Layout, estimator: str, split: str) -> tuple[Path, Json]:
    """The file of the scores of an estimator on a split, dense if there are both, and its fingerprint.

    Raises:
        StoreError: there are no scores, or the file is damaged.
    """
    dense, kept = layout.scores(estimator, split), layout.scores_top(estimator, split)
    path = dense if dense.exists() else kept
    if not path.exists():
        raise no_scores(layout, estimator, split)
    return path, read_fingerprint(path)


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
        return [_extremes(read_scores(dense, Rows(row, row + 1)), k) for row in rows]
    kept = layout.scores_top(estimator, split)
    ends, training = read_kept(layout, estimator, split)
    available = ends.top.indices.shape[1]
    if min(k, training) > available:
        remedy = f"give -k {available}, or keep more when you score (score.top_k, refine.candidates)"
        raise ConfigError(Problem("-k", str(k), f"at most {available}, as many as {kept} keeps", remedy))
    return [
        TopBottom(*(Extremes(end.indices[[row], :k], end.values[[row], :k]) for end in (ends.top, ends.bottom))) for row in rows
    ]


def read_kept(layout: Layout, estimator: str, split: str) -> tuple[TopBottom, int]:
    """All highest and lowest scores that are stored instead of dense ones, and the number of training rows.

    Raises:
        StoreError: there are none, or the file is damaged.
    """
    path = layout.scores_top(estimator, split)
    if not path.exists():
        raise no_scores(layout, estimator, split)
    image = read_image(path)
    return TopBottom.of(image.arrays), int(image.fingerprint["rows"])


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


def _extremes(scores: Float32, k: int) -> TopBottom:
    best = TopK(len(scores), min(k, scores.shape[1]))
    best.update(scores, 0)
    return best.result()
