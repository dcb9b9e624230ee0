"""What is whole of the files that were derived from features: Gram matrices and scores. Read in pieces, whatever their size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trak_cli.errors import StoreError
from trak_cli.store.header import verify
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import open_scores

#: Called after each file.
Advance = Callable[[], None]


@dataclass(frozen=True)
class GramStatus:
    """Finalised Gram matrices of one weighting; ``damaged``: files, seen from the store."""

    key: str
    checkpoints: list[str]
    damaged: list[str]


@dataclass(frozen=True)
class ScoreStatus:
    """The scores of one estimator on one split.

    Attributes:
        complete: they can be read: the whole, and every block that it refers to as it was then.
        blocks: files of a block of targets and a shard of training rows that are there.
        damaged: files that are not whole, seen from the store.
    """

    estimator: str
    split: str
    complete: bool
    blocks: int
    damaged: list[str]


def gram_files(layout: Layout, key: str) -> list[Path]:
    """The Gram matrices of one weighting."""
    return [layout.finalized(key, checkpoint) for checkpoint in layout.finalized_checkpoints(key)]


def gram_status(layout: Layout, key: str, advance: Advance) -> GramStatus:
    """Check every Gram matrix of one weighting."""
    contents = _contents(gram_files(layout, key), advance)
    return GramStatus(key, layout.finalized_checkpoints(key), _damaged(layout, contents))


def score_files(layout: Layout, estimator: str, split: str) -> list[Path]:
    """The files that are there of one estimator's scores on a split: the blocks, then what they were put together in."""
    blocks = [
        layout.scores_shard(estimator, split, block, shard)
        for block in layout.score_blocks(estimator, split)
        for shard in layout.score_shards(estimator, split, block)
    ]
    return [*blocks, *(path for path in _wholes(layout, estimator, split) if path.exists())]


def score_status(layout: Layout, estimator: str, split: str, advance: Advance) -> ScoreStatus:
    """Check every file of one estimator's scores on a split."""
    dense, top = _wholes(layout, estimator, split)
    contents = _contents(score_files(layout, estimator, split), advance)
    if dense in contents:  # as whoever reads them prefers it
        complete = contents[dense] is not None and _refers_to(dense, contents)
    else:
        complete = contents.get(top) is not None
    blocks = len(contents.keys() - {dense, top})
    return ScoreStatus(estimator, split, complete, blocks, _damaged(layout, contents))


def _wholes(layout: Layout, estimator: str, split: str) -> tuple[Path, Path]:
    return layout.scores(estimator, split), layout.scores_top(estimator, split)


def _refers_to(dense: Path, contents: dict[Path, str | None]) -> bool:
    try:
        return all(contents.get(source.path) == content for source, content in open_scores(dense).sources)
    except StoreError:
        return False


def _contents(paths: Sequence[Path], advance: Advance) -> dict[Path, str | None]:
    """The content digest of every file; None where it is not whole."""
    found: dict[Path, str | None] = {}
    for path in paths:
        try:
            found[path] = verify(path).content
        except StoreError:
            found[path] = None
        advance()
    return found


def _damaged(layout: Layout, contents: dict[Path, str | None]) -> list[str]:
    return [path.relative_to(layout.root).as_posix() for path, content in contents.items() if content is None]
