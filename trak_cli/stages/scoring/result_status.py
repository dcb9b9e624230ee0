"""Which Gram matrices and scores are stored: by names and sizes, or with every digest checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trak_cli.errors import StoreError
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.store.chosen_targets import ChosenTargets
from trak_cli.store.container import read_image
from trak_cli.store.header import LEAST_BYTES, read_header, verify
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN

#: Called after each file that is verified.
Advance = Callable[[], None]


@dataclass(frozen=True)
class GramStatus:
    """Gram matrices with one kind of weights; ``damaged``: paths inside the store."""

    key: str
    checkpoints: list[str]
    damaged: list[str]


@dataclass(frozen=True)
class CompressedStatus:
    """Compressed copies of the training features.

    Attributes:
        measured: estimators whose recall `trak compress` has measured with these copies, which it does once they are complete.
        damaged: paths inside the store.
    """

    checkpoints: list[str]
    parts: int
    measured: list[str]
    damaged: list[str]


@dataclass(frozen=True)
class ScoreStatus:
    """The scores of one estimator on one split.

    Attributes:
        complete: they can be read: every target, every training row.
        blocks: stored files of a block of targets and a shard of training rows.
        damaged: files that are damaged, as paths inside the store.
        targets: rows of the split, for scores of chosen targets; None for every row, or as long as scores are incomplete.
        group: whether there is one row of scores, of the mean of f over these targets.
    """

    estimator: str
    split: str
    complete: bool
    blocks: int
    damaged: list[str]
    targets: list[int] | None
    group: bool


def gram_files(layout: Layout, key: str) -> list[Path]:
    """The files of the Gram matrices with one kind of weights."""
    return [layout.finalized(key, checkpoint) for checkpoint in layout.finalized_checkpoints(key)]


def gram_status(layout: Layout, key: str, advance: Advance | None = None) -> GramStatus:
    """The status by names and sizes, or with every byte checked and ``advance`` called after each file."""
    return GramStatus(key, layout.finalized_checkpoints(key), _inside(layout, _damaged(gram_files(layout, key), advance)))


def compressed_files(layout: Layout) -> list[Path]:
    """The files of compressed features, and of their recall."""
    files = [layout.compressed_recall(estimator) for estimator in layout.compressed_recalls()]
    for checkpoint in layout.compressed_checkpoints():
        files += layout.compressed_files(checkpoint)
    return files


def compressed_status(layout: Layout, advance: Advance | None = None) -> CompressedStatus:
    """The status by names and sizes, or with every byte checked and ``advance`` called after each file."""
    checkpoints = layout.compressed_checkpoints()
    parts = sum(len(layout.compressed_parts(checkpoint)) for checkpoint in checkpoints)
    damaged = _inside(layout, _damaged(compressed_files(layout), advance))
    return CompressedStatus(checkpoints, parts, _measured(layout, checkpoints), damaged)


def _measured(layout: Layout, checkpoints: Sequence[str]) -> list[str]:
    """The estimators whose recall was measured with the stored bases, and with as many training rows as there are."""
    bases: set[str] = set()
    for checkpoint in checkpoints:
        with suppress(StoreError):
            bases.add(read_header(layout.compressed_basis(checkpoint)).content)
    measured = []
    for estimator in layout.compressed_recalls():
        with suppress(StoreError):
            found = read_image(layout.compressed_recall(estimator), only=()).fingerprint
            own = found.get("bases")
            complete = isinstance(own, list) and bool(own) and all(one in bases for one in own)
            if complete and found.get("rows") == rows_of(layout, TRAIN):
                measured.append(estimator)
    return measured


def score_files(layout: Layout, estimator: str, split: str) -> list[Path]:
    """The stored files of one estimator's scores on a split: those of the units, then the complete scores."""
    complete = (layout.scores(estimator, split), layout.scores_top(estimator, split))
    return [*(path for path, _ in _units(layout, estimator, split)), *(path for path in complete if path.exists())]


def list_scores(layout: Layout, estimator: str, split: str, rows: int | None) -> ScoreStatus:
    """The status by names and sizes of the units, and the file of the complete scores.

    Dense scores count as complete when every file that they refer to is there, and they are of ``rows`` training rows
    (None: unknown).
    """
    sizes = dict(_units(layout, estimator, split))
    damaged = [path for path, size in sizes.items() if size < LEAST_BYTES]
    complete = False
    path, chosen = _readable(layout, estimator, split, damaged)
    if path is not None and path not in damaged:
        complete = path != layout.scores(estimator, split) or (not damaged and _has_units(path, sizes, rows))
    return _status(layout, (estimator, split), complete, len(sizes), damaged, chosen)


def verify_scores(layout: Layout, estimator: str, split: str, advance: Advance) -> ScoreStatus:
    """The status with every byte checked.

    Dense scores are complete when every file that they refer to still has the content it had when they were assembled.
    """
    dense, top = layout.scores(estimator, split), layout.scores_top(estimator, split)
    contents = {path: _content(path, advance) for path in score_files(layout, estimator, split)}
    if dense in contents:
        complete = contents[dense] is not None and _refers_to(dense, contents)
    else:
        complete = contents.get(top) is not None
    damaged = [path for path, content in contents.items() if content is None]
    _, chosen = _readable(layout, estimator, split, damaged)
    return _status(layout, (estimator, split), complete, len(contents.keys() - {dense, top}), damaged, chosen)


def _readable(layout: Layout, estimator: str, split: str, damaged: list[Path]) -> tuple[Path | None, ChosenTargets | None]:
    """The file of the complete scores that readers take, and its chosen targets; a damaged one is added to ``damaged``."""
    complete = (layout.scores(estimator, split), layout.scores_top(estimator, split))
    path = next((path for path in complete if path.exists()), None)
    if path is None:
        return None, None
    from trak_cli.store.virtual import read_fingerprint

    try:
        return path, ChosenTargets.of(read_fingerprint(path))
    except StoreError:
        if path not in damaged:
            damaged.append(path)
        return path, None


def _status(
    layout: Layout, of: tuple[str, str], complete: bool, blocks: int, damaged: list[Path], chosen: ChosenTargets | None
) -> ScoreStatus:
    shown = chosen if complete else None
    targets = None if shown is None else list(shown.rows)
    return ScoreStatus(*of, complete, blocks, _inside(layout, damaged), targets, shown is not None and shown.group)


def _has_units(dense: Path, sizes: Mapping[Path, int], rows: int | None) -> bool:
    """Whether all files that dense scores refer to are among the stored ones, and they are of this many training rows."""
    from trak_cli.store.virtual import open_scores

    scores = open_scores(dense)
    return rows in (None, scores.shape[1]) and all(source.path in sizes for source, _ in scores.sources)


def _units(layout: Layout, estimator: str, split: str) -> Iterator[tuple[Path, int]]:
    """The stored files of the units, with their sizes in bytes."""
    for block in layout.score_blocks(estimator, split):
        for shard, size in sorted(layout.score_sizes(estimator, split, block).items()):
            yield layout.scores_shard(estimator, split, block, shard), size


def _size(path: Path) -> int:
    """Bytes of a file; 0 when it has just been removed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _content(path: Path, advance: Advance) -> str | None:
    """The content digest of a file; None where the file is damaged."""
    try:
        return verify(path).content
    except StoreError:
        return None
    finally:
        advance()


def _refers_to(dense: Path, contents: Mapping[Path, str | None]) -> bool:
    from trak_cli.store.virtual import open_scores

    try:
        return all(contents.get(source.path) == content for source, content in open_scores(dense).sources)
    except StoreError:
        return False


def _damaged(files: list[Path], advance: Advance | None) -> list[Path]:
    return [path for path in files if (_size(path) < LEAST_BYTES if advance is None else _content(path, advance) is None)]


def _inside(layout: Layout, paths: list[Path]) -> list[str]:
    return [path.relative_to(layout.root).as_posix() for path in paths]
