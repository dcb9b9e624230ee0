"""The scores of one estimator on one split of a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trak_cli.attribution.topk import TopBottom
from trak_cli.config.load import Loaded
from trak_cli.errors import ConfigError, Problem, StoreError
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.scoring.score_notes import read_warnings
from trak_cli.stages.scoring.score_reader import no_scores, outdated_scores, read_extremes, read_kept, stored_scores
from trak_cli.store.chosen_targets import ChosenTargets
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import open_scores, pick_scores, read_scores, score_blocks
from trak_cli.types import TRAIN, Float32, IntArray, Json, Rows


@dataclass(frozen=True)
class Scored:
    """Finished scores, dense or only the highest and lowest of each target.

    Attributes:
        layout: of the store.
        path: the file of the scores.
        fingerprint: of that file.
        targets: number of rows of the split when it was scored.
        rows: number of training rows when it was scored.
        chosen: the targets, where only some were scored; None for every row of the split.
    """

    layout: Layout
    estimator: str
    split: str
    path: Path
    fingerprint: Json
    targets: int
    rows: int
    chosen: ChosenTargets | None

    @property
    def group(self) -> list[int] | None:
        """The targets over whose mean f the scores are; None for scores of single targets."""
        return list(self.chosen.rows) if self.chosen is not None and self.chosen.group else None

    @property
    def count(self) -> int:
        """The number of rows of scores: targets, or 1 for a group."""
        return self.targets if self.chosen is None else self.chosen.count

    @property
    def target_rows(self) -> Sequence[int]:
        """The rows of the split that have scores, in the order of the scores."""
        return range(self.targets) if self.chosen is None else self.chosen.rows

    @property
    def warnings(self) -> list[str]:
        """About the scores, by the command that wrote them."""
        return read_warnings(self.layout, self.estimator, self.split)

    @property
    def from_features(self) -> bool:
        """Whether an estimator computed them from features; imported scores, for example, are not."""
        return "metric" in self.fingerprint["estimator"]

    @property
    def dense(self) -> bool:
        """Whether the scores of every training row are stored, not only the highest and lowest of each target."""
        return self.layout.scores(self.estimator, self.split).exists()

    def positions(self, targets: Sequence[int]) -> list[int]:
        """The places of these rows of the split among the scores.

        Raises:
            ConfigError: one of them is no row of the split, or was not among the chosen targets.
            StoreError: one of them was added since the split was scored.
        """
        rows = rows_of(self.layout, self.split)
        ConfigError.raise_for(
            Problem("--target", str(target), f"a row of {self.split}: 0 to {rows - 1}", "choose a row that exists")
            for target in targets
            if not 0 <= target < rows
        )
        if self.chosen is None:
            if any(target >= self.targets for target in targets):
                raise outdated_scores(self.path, (self.targets, self.rows), (rows, rows_of(self.layout, TRAIN)))
            return list(targets)
        if self.chosen.group and targets:
            found, expected = ", ".join(map(str, targets)), f"nothing: {self.path} has one row of scores, of {self.chosen}"
            raise ConfigError(Problem("--target", found, expected, "leave out --target"))
        places = [self.chosen.position(target) for target in targets]
        ConfigError.raise_for(
            Problem("--target", str(target), f"one of those that {self.path} has: {self.chosen}", "choose one of these rows")
            for target, place in zip(targets, places, strict=True)
            if place is None
        )
        return [place for place in places if place is not None]

    def extremes(self, positions: Sequence[int], k: int) -> list[TopBottom]:
        """The k highest and k lowest scores at each of these positions.

        Raises:
            ConfigError: fewer than k were kept.
        """
        return read_extremes(self.layout, self.estimator, self.split, positions, k)

    def kept(self) -> TopBottom:
        """All that is stored of scores that are not dense: the highest and lowest of each target.

        Raises:
            StoreError: the file is damaged, or there are only dense scores.
        """
        return read_kept(self.layout, self.estimator, self.split)[0]

    def require_dense(self) -> None:
        """Require the scores of every training row.

        Raises:
            StoreError: only the highest and lowest of each target are stored.
        """
        if not self.dense:
            raise no_scores(self.layout, self.estimator, self.split)

    def pieces(self) -> Iterator[tuple[Rows, Rows, Float32]]:
        """The dense scores as they are stored, each file read once: (positions, training rows, block of that shape).

        All pieces of some positions follow one another.

        Raises:
            StoreError: there are no dense scores, or a file is damaged.
        """
        self.require_dense()
        yield from score_blocks(open_scores(self.path))

    def pick(self, positions: IntArray, train: IntArray) -> Float32:
        """The dense scores at these positions for these training rows; only the files that hold them are read.

        Raises:
            StoreError: there are no dense scores, or a file is damaged.
        """
        self.require_dense()
        return pick_scores(self.path, positions, train)

    def blocks(self, targets: int) -> Iterator[tuple[Rows, Float32]]:
        """The dense scores, (at most ``targets``, n) at a time, with their positions; the last block may be smaller.

        Raises:
            StoreError: there are no dense scores, or a file is damaged.
        """
        self.require_dense()
        for start in range(0, self.count, targets):
            rows = Rows(start, min(start + targets, self.count))
            yield rows, read_scores(self.path, rows)


def open_scored(loaded: Loaded, split: str | None) -> Scored:
    """The scores of the configured estimator on a split; without a split, on the configured or only one that has scores.

    Raises:
        ConfigError: no split was named, and several have scores.
        StoreError: there are no scores.
    """
    config, layout = loaded.config, Layout(Path(loaded.config.store))
    estimator, _ = config.estimator.shown
    split = split or _only_split(layout, estimator, list(config.dataset.targets))
    rows_of(layout, split)
    path, fingerprint = stored_scores(layout, estimator, split)
    chosen = ChosenTargets.of(fingerprint)
    return Scored(layout, estimator, split, path, fingerprint, fingerprint["targets"], fingerprint["rows"], chosen)


def likely_split(layout: Layout, estimator: str, configured: Sequence[str]) -> str | None:
    """The only split that has scores of an estimator, or the only configured one among them; None if there is no such split."""
    scored = layout.scored_splits(estimator)
    likely = [split for split in scored if split in configured]
    return (likely or scored)[0] if len(scored) == 1 or len(likely) == 1 else None


def _only_split(layout: Layout, estimator: str, configured: Sequence[str]) -> str:
    if (likely := likely_split(layout, estimator, configured)) is not None:
        return likely
    scored = layout.scored_splits(estimator)
    if not scored:
        expected = f"scores (there are some of: {', '.join(layout.estimators()) or 'no estimator'})"
        remedy = "run trak score first, or choose estimator=NAME"
        raise StoreError(Problem(str(layout.root), f"no scores of estimator {estimator}", expected, remedy))
    remedy = f"say which split the targets are in, for example --split {scored[0]}"
    raise ConfigError(Problem("--split", "nothing", f"one of: {', '.join(scored)}", remedy))
