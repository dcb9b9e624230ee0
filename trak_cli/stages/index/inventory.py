"""The features that finalize and score use: checkpoints and their shards, and whether all of them are stored."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import numpy as np

from trak_cli.errors import ConfigError, Problem, StoreError
from trak_cli.plugins.checkpoints.member import checkpoint_of
from trak_cli.plurals import counted
from trak_cli.stages.index.feature_status import unfinished_shards
from trak_cli.stages.index.fingerprint_differences import OF_CHECKPOINT
from trak_cli.stages.index.fingerprints import curvature_of, read_fingerprint, shard_fingerprint
from trak_cli.stages.index.run_plan import RunPlan, require_plan
from trak_cli.stages.index.split_sizes import rows_of, split_shards
from trak_cli.stages.inputs.reading_ahead import ahead
from trak_cli.store.fingerprint import differences, require_same, shown
from trak_cli.store.layout import Layout
from trak_cli.store.safety.visibility import wait_until_visible
from trak_cli.store.shards import CURVATURE_COLUMNS, Condition, FeatureShard, inspect_features, read_features
from trak_cli.types import TRAIN, IntArray, Json, Rows, by_numbers, listed

#: The digest in the name of a checkpoint's folder; the name of an ensemble member goes on after it.
_DIGEST = re.compile(r"-[0-9a-f]{8}(?=$|\+)")

#: Number of problems of one kind that are shown; the others are only counted.
SHOWN = 5

#: With more shards missing than this, none is looked for: a number of rows in a store of somebody else may be anything.
_MOST_MISSING = 1_000

#: Checkpoint, split and number of a shard.
_Shard = tuple[str, str, int]


@dataclass(frozen=True)
class Inventory:
    """The part of a store that an estimator uses.

    Attributes:
        features: checkpoint -> its features fingerprint, in the order in which they are averaged.
        rows: number of training rows.
    """

    layout: Layout
    plan: RunPlan
    features: Mapping[str, Json]
    rows: int
    _shards: dict[str, Sequence[Rows]] = field(default_factory=dict, repr=False)

    @property
    def checkpoints(self) -> list[str]:
        """The checkpoints that are averaged over."""
        return list(self.features)

    @property
    def dim(self) -> int:
        """k, the number of features."""
        return int(next(iter(self.features.values()))["projection"]["dim"])

    @property
    def curvature(self) -> str | None:
        """What the training rows have besides features: "terms", "classes" or nothing."""
        return curvature_of(next(iter(self.features.values())))

    def first(self, count: int | None) -> Inventory:
        """With the first ``count`` checkpoints (None: all). Numbers in names are compared as numbers: epoch_9 before epoch_10.

        Raises:
            ConfigError: there are fewer.
        """
        if count is None:
            return self
        if count > len(self.features):
            found, expected = (
                counted(count, "checkpoint"),
                f"at most the {len(self.features)} that estimator.average_over names",
            )
            remedy = "leave out this number, or run trak featurize with more checkpoints first"
            raise ConfigError(Problem("estimator.checkpoint_counts", found, expected, remedy))
        chosen = sorted(self.features, key=by_numbers)[:count]
        return replace(self, features={name: one for name, one in self.features.items() if name in chosen})

    def shards(self, split: str) -> Sequence[Rows]:
        """The shards of a split; its length is read once."""
        if split not in self._shards:
            self._shards[split] = split_shards(self.layout, split, self.plan.shard_rows)
        return self._shards[split]

    def read(self, checkpoint: str, split: str, index: int, with_curvature: bool = False) -> FeatureShard:
        """One shard, checked to be intact and the expected one.

        ``with_curvature``: include the per-token terms or other classes of training rows, if the store has them.

        Raises:
            StoreError: it is missing, damaged or another run's; names every such shard of the splits in use.
        """
        try:
            return self._read(checkpoint, split, index, with_curvature)
        except StoreError:
            require_shards(self, list(self._shards))
            raise

    def _read(self, checkpoint: str, split: str, index: int, with_curvature: bool) -> FeatureShard:
        rows = self.shards(split)[index]
        fingerprint = shard_fingerprint(self.features[checkpoint], split)
        path = self.layout.features(checkpoint, split, index)
        wanted = self.curvature if with_curvature and split == TRAIN else None
        shard = read_features(path, wanted is not None)
        require_same(path, shard.fingerprint | {"rows": str(shard.rows)}, fingerprint | {"rows": str(rows)})
        if wanted is not None and getattr(shard, CURVATURE_COLUMNS[wanted][1]) is None:
            expected = f"features of {wanted}, as the store has them"
            remedy = "delete this file, and run trak featurize again"
            raise StoreError(Problem(str(path), f"no features of {wanted}", expected, remedy))
        return shard

    def shards_in(self, split: str, rows: Rows) -> Sequence[Rows]:
        """The shards of a split that hold some of a range of rows."""
        length = self.plan.shard_rows
        return self.shards(split)[rows.start // length : -(-rows.stop // length)]

    def shards_with(self, split: str, rows: IntArray) -> list[Rows]:
        """The shards of a split that hold some of these rows."""
        shards = self.shards(split)
        return [shards[index] for index in np.unique(rows // self.plan.shard_rows)]

    def read_all(self, checkpoint: str, split: str, with_curvature: bool = False) -> Iterator[FeatureShard]:
        """Every shard of a split, in row order, read ahead."""
        return self.read_some(checkpoint, split, self.shards(split), with_curvature)

    def read_range(self, checkpoint: str, split: str, rows: Rows, with_curvature: bool = False) -> Iterator[FeatureShard]:
        """Some rows of a split, shard by shard, read ahead; shards at the ends are cut."""
        for shard in self.read_some(checkpoint, split, self.shards_in(split, rows), with_curvature):
            yield shard.cut(rows)

    def read_some(
        self, checkpoint: str, split: str, shards: Iterable[Rows], with_curvature: bool = False
    ) -> Iterator[FeatureShard]:
        """Some shards of a split, by their rows, read ahead."""
        length = self.plan.shard_rows
        return ahead(self.read(checkpoint, split, rows.start // length, with_curvature) for rows in shards)


def take_inventory(layout: Layout, patterns: Sequence[str]) -> Inventory:
    """The checkpoints of the store whose names match, and what they hold.

    Raises:
        StoreError: no features, no matching checkpoint, checkpoints whose features do not belong together, or one that is
            there twice.
    """
    plan = require_plan(layout)
    known = layout.checkpoints()
    checkpoints = [name for name in known if _matches(name, patterns)]
    if not checkpoints:
        expected = f"patterns for: {', '.join(known) or 'no checkpoint has features yet'}"
        remedy = "fix the patterns, or run trak featurize first"
        raise StoreError(Problem("estimator.average_over", f"{list(patterns)}, which matches none", expected, remedy))
    features = {name: read_fingerprint(layout, name) for name in checkpoints}
    _require_alike(features)
    _require_distinct(layout, features)
    return Inventory(layout, plan, features, rows_of(layout, TRAIN))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern fits the name of a checkpoint's folder, with or without the digest: ``full_0`` fits full_0-1a2b3c4d."""
    names = (name, _DIGEST.sub("", name, count=1))
    return any(fnmatchcase(text, pattern) for text in names for pattern in patterns)


def require_stored(inventory: Inventory, splits: Sequence[str]) -> None:
    """Check by names and sizes that every shard of these splits is stored; the bytes are checked when they are read.

    Raises:
        StoreError: names the shards that are missing, and those of them that are too short and damaged.
    """
    doubtful = [
        (checkpoint, split, index)
        for checkpoint, split, sizes in _listed(inventory, splits)
        for index in unfinished_shards(inventory.layout, checkpoint, split, inventory.shards(split), sizes)
    ]
    _require(inventory, doubtful)


def require_shards(inventory: Inventory, splits: Sequence[str]) -> None:
    """Check every byte of every shard of these splits, before long work that reads them late.

    Raises:
        StoreError: names the shards that are missing, damaged or another run's.
    """
    _require(
        inventory,
        [
            (checkpoint, split, index)
            for checkpoint, split, _ in _listed(inventory, splits)
            for index in range(len(inventory.shards(split)))
        ],
    )


def _listed(inventory: Inventory, splits: Sequence[str]) -> Iterator[tuple[str, str, dict[int, int]]]:
    """The sizes of the stored shards of each checkpoint and split, listed once.

    Raises:
        StoreError: most shards are missing; they are not looked for one by one.
    """
    layout = inventory.layout
    for checkpoint in inventory.checkpoints:
        for split in splits:
            sizes = layout.feature_sizes(checkpoint, split)
            lacking = len(inventory.shards(split)) - len(sizes)
            if lacking > _MOST_MISSING:
                raise StoreError(_missing_shards(lacking, [str(layout.features_folder(checkpoint, split))], [checkpoint]))
            yield checkpoint, split, sizes


def _require(inventory: Inventory, shards: Iterable[_Shard]) -> None:
    """Check some shards."""
    problems: list[Problem] = []
    missing = _missing(inventory, shards, problems)
    if missing and wait_until_visible([inventory.layout.features(*shard) for shard in missing]):
        missing = _missing(inventory, missing, problems)
    if missing:
        places = [str(inventory.layout.features(*shard)) for shard in missing]
        problems.append(_missing_shards(len(missing), places, {checkpoint for checkpoint, _, _ in missing}))
    StoreError.raise_for(problems)


def _missing(inventory: Inventory, shards: Iterable[_Shard], problems: list[Problem]) -> list[_Shard]:
    """Those of the shards that are missing or too short; the problems of the others are added."""
    missing = []
    for checkpoint, split, index in shards:
        path = inventory.layout.features(checkpoint, split, index)
        features, rows = inventory.features[checkpoint], inventory.shards(split)[index]
        state = inspect_features(path, rows, shard_fingerprint(features, split))
        if state.condition in (Condition.MISSING, Condition.SHORTER):
            missing.append((checkpoint, split, index))
        else:
            problems += state.problems
    return missing


def _missing_shards(count: int, places: Sequence[str], checkpoints: Collection[str]) -> Problem:
    found = f"nothing (or too few rows) at {listed(places, SHOWN)}"
    remedy = "run trak featurize again, or choose checkpoints with estimator.average_over"
    if all(checkpoint_of(name) != name for name in checkpoints):  # perhaps of members that the configuration no longer has
        remedy = "run trak featurize with these members, or leave members out by 'estimator.average_over=[*-????????]'"
    return Problem(f"{counted(count, 'shard')} of features", found, "every shard of every checkpoint", remedy)


def _require_alike(features: Mapping[str, Json]) -> None:
    """Raise unless the fingerprints differ in the checkpoint only, so that features can be averaged over checkpoints."""
    (reference, expected), *others = features.items()
    names: dict[tuple[str, str, str], list[str]] = {}
    for name, one in others:
        for key, found, wanted in differences(one, expected):
            if key not in OF_CHECKPOINT:
                names.setdefault((key, shown(found), shown(wanted)), []).append(name)
    StoreError.raise_for(
        Problem(
            f"features of {', '.join([*checkpoints[:SHOWN], *(['…'] if len(checkpoints) > SHOWN else [])])}",
            f"{key} = {found}",
            f"{wanted}, as in {reference}",
            "choose checkpoints that belong together with estimator.average_over, or use another store",
        )
        for (key, found, wanted), checkpoints in names.items()
    )


def _require_distinct(layout: Layout, features: Mapping[str, Json]) -> None:
    """Raise if a checkpoint has two folders, as after its file was renamed: it would count twice in the average."""
    first: dict[str, str] = {}
    StoreError.raise_for(
        Problem(
            f"features of {name}",
            f"the weights of {other}, under another name",
            "every checkpoint once: a file that was renamed counts twice",
            f"delete the folder {layout.fingerprint(other).parent} or that of {name}, or choose with estimator.average_over",
        )
        for name, one in features.items()
        if (other := first.setdefault(str(one.get("checkpoint")), name)) != name
    )
