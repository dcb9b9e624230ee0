"""How much of a stage is stored, by the files of the store alone: no model or data set is opened, no checkpoint loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, StoreError
from trak_cli.plugins.checkpoints.files import find
from trak_cli.plugins.checkpoints.identity import name_of, sha256
from trak_cli.stages.index.feature_status import unfinished_shards
from trak_cli.stages.index.fingerprints import scores_fingerprint
from trak_cli.stages.index.inventory import Inventory, take_inventory
from trak_cli.stages.index.run_plan import read_plan
from trak_cli.stages.index.split_sizes import rows_of, split_shards
from trak_cli.stages.index.work_parts import part_rows
from trak_cli.stages.inputs.checkpoints import members_of
from trak_cli.stages.scoring.gram_store import gram_path
from trak_cli.stages.scoring.result_status import list_scores
from trak_cli.stages.submitting.compressed_copy import copy_files
from trak_cli.stages.submitting.fingerprints import has_fingerprint
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN


@dataclass(frozen=True)
class Progress:
    """The state of a stage.

    Attributes:
        unit: what is counted.
        total: files that it writes; None as long as the store does not tell, because an earlier stage has not run.
        missing: those that are not stored, in the order of the stage: as paths, as far as they are known.
    """

    unit: str
    total: int | None
    missing: Sequence[Path] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.total is not None and not self.missing

    @property
    def done(self) -> int:
        """Stored files."""
        return 0 if self.total is None else self.total - len(self.missing)


def inputs_of(stage: str, config: TrakConfig) -> tuple[str, ...]:
    """The shared stages whose results a stage reads."""
    retrain = config.retrain
    scores_first = {"refine": config.refine.candidates is not None, "retrain": bool(retrain.remove_top or retrain.flip_top)}
    return (*_READS.get(stage, ()), *(("score",) if scores_first.get(stage) else ()))


#: Stage -> the stages whose results it reads in any case.
_READS = {
    "finalize": ("featurize",),
    **dict.fromkeys(("score", "compress", "refine"), ("featurize", "finalize")),
}


def progress_of(stage: str, loaded: Loaded) -> Progress:
    """How much of a stage is stored.

    Raises:
        StoreError, MachineError: the store cannot be read.
    """
    return _STAGES[stage](loaded)


def _featurize(loaded: Loaded) -> Progress:
    config, layout = loaded.config, Layout(Path(loaded.config.store))
    plan = read_plan(layout)
    names = [TRAIN, *config.dataset.targets]
    described = layout.described_splits()
    checkpoints = _checkpoints(loaded, layout)
    if plan is None or checkpoints is None or config.dataset.replace or not set(names) <= set(described):
        return Progress("shards", None)
    missing: list[Path] = []
    total = 0
    for checkpoint in checkpoints:
        for split in names:
            shards = split_shards(layout, split, plan.shard_rows)
            total += len(shards)
            unfinished = unfinished_shards(layout, checkpoint, split, shards, layout.feature_sizes(checkpoint, split))
            missing += [layout.features(checkpoint, split, index) for index in unfinished]
    return Progress("shards", total, missing)


def _checkpoints(loaded: Loaded, layout: Layout) -> list[str] | None:
    """The folders in the store of the checkpoints in the configuration; None if one is missing."""
    config, stored = loaded.config, set(layout.checkpoints())
    paths = find(config.checkpoints.files, loaded.base)
    files = {_stored_name(path, config.checkpoints.key, layout): path for path in paths}
    members = ["", *(member.suffix for member in members_of(config, files.values()))]
    names = [f"{name}{member}" for name in files for member in members]
    return names if set(names) <= stored else None


def _stored_name(path: Path, key: str | None, layout: Layout) -> str:
    """The name of a checkpoint in the store; its file is read only if it may have changed since its features were made."""
    prefix = re.escape(name_of(path, "").removesuffix("-"))
    found = [name for name in layout.checkpoints() if re.fullmatch(f"{prefix}-[0-9a-f]{{8}}", name)]
    status = path.stat()
    with suppress(OSError):
        if len(found) == 1 and path.is_file() and status.st_mtime <= layout.fingerprint(found[0]).stat().st_mtime:
            return found[0]
    return name_of(path, _digest(path, key, (status.st_ino, status.st_size, status.st_mtime_ns)))


@cache
def _digest(path: Path, key: str | None, stamp: tuple[int, ...]) -> str:
    """The digest of a checkpoint, which is read once for each state of its file."""
    del stamp
    return sha256(path, key)


def _inventory(config: TrakConfig) -> Inventory | None:
    """The features that the estimator uses; None as long as there are none, or too few."""
    try:
        inventory = take_inventory(Layout(Path(config.store)), config.estimator.average_over)
        return inventory.first(max(config.estimator.checkpoint_counts, default=None))
    except (StoreError, ConfigError):
        return None


def _finalize(loaded: Loaded) -> Progress:
    config, estimator = loaded.config, loaded.config.estimator.spec
    if not estimator.needs_gram:
        return Progress("Gram matrices", 0)
    inventory = _inventory(config)
    if inventory is None:
        return Progress("Gram matrices", None)
    paths = [gram_path(inventory, estimator, checkpoint) for checkpoint in inventory.checkpoints]
    return Progress(
        "Gram matrices", len(paths), [path for path in paths if not has_fingerprint(path, {"rows": inventory.rows})]
    )


def _score(loaded: Loaded) -> Progress:
    config, layout = loaded.config, Layout(Path(loaded.config.store))
    inventory = _inventory(config)
    splits = config.score.splits or [name for name in layout.described_splits() if name != TRAIN]
    if inventory is None or not splits or not set(splits) <= set(layout.described_splits()):
        return Progress("sets of scores", None)
    total = len(config.estimator.names) * len(splits)
    return Progress("sets of scores", total, list(_incomplete_scores(config, inventory, splits)))


def _incomplete_scores(config: TrakConfig, inventory: Inventory, splits: Sequence[str]) -> Iterator[Path]:
    """The files of complete scores that are not there, or refer to files that are not there, or have other settings."""
    layout, top_k = inventory.layout, config.score.top_k
    for name, count in config.estimator.names.items():
        average = inventory.first(count)
        spec: EstimatorSpec = replace(config.estimator.spec, name=name)
        for split in splits:
            path = (layout.scores if top_k is None else layout.scores_top)(name, split)
            targets, features = rows_of(layout, split), list(average.features.values())
            expected = scores_fingerprint(spec, features, average.rows, split, targets, top_k)
            if not has_fingerprint(path, expected) or not list_scores(layout, name, split, average.rows).complete:
                yield path


def _compress(loaded: Loaded) -> Progress:
    config, inventory = loaded.config, _inventory(loaded.config)
    if inventory is None:
        return Progress("parts and recall", None)
    name, count = config.estimator.shown
    estimator, rows = replace(config.estimator.spec, name=name), part_rows(config.worker.part_rows, inventory.dim)
    files = copy_files(inventory.first(count), estimator, rows)
    return Progress("parts and recall", len(files), [path for path, stored in files.items() if not stored])


def _refine(loaded: Loaded) -> Progress:
    config = loaded.config
    return _of_one_split(loaded, config.refine.split, config.refine.name or f"{config.estimator.name}_refined")


def _unroll(loaded: Loaded) -> Progress:
    unroll, layout = loaded.config.unroll, Layout(Path(loaded.config.store))
    scores = _of_one_split(loaded, unroll.split, unroll.name)
    if scores.total is None:
        return scores
    split = unroll.split or next(iter(loaded.config.dataset.targets))
    checks = [f"without_{number:05}.h5" for number in range(unroll.removals)]
    checks += [f"direction_{number:05}.h5" for number in range(unroll.directions)]
    paths = [layout.unrolled(unroll.name, split, name) for name in checks]
    missing = [*scores.missing, *(path for path in paths if not path.exists())]
    return Progress("files of scores and checks", scores.total + len(paths), missing)


def _of_one_split(loaded: Loaded, split: str | None, name: str) -> Progress:
    """The progress of a stage that scores targets of one split, the only one if it is not named."""
    layout, splits = Layout(Path(loaded.config.store)), list(loaded.config.dataset.targets) if split is None else [split]
    if len(splits) != 1:  # the stage refuses
        return Progress("sets of scores", None)
    complete = splits[0] in layout.begun_scores(name) and list_scores(layout, name, splits[0], None).complete
    return Progress("sets of scores", 1, [] if complete else [layout.scores(name, splits[0])])


def _retrain(loaded: Loaded) -> Progress:
    config, layout = loaded.config, Layout(Path(loaded.config.store))
    run = config.retrain.own_run
    if config.retrain.remove_top or config.retrain.flip_top:  # the scores decide which models are trained
        return Progress("files of retrained models", None)
    paths = [layout.retrained(subset, run) for subset in range(config.retrain.subsets)]
    if run is not None:
        paths.append(layout.retrained_full(run))
    return Progress("files of retrained models", len(paths), [path for path in paths if not path.exists()])


_STAGES: dict[str, Callable[[Loaded], Progress]] = {
    "featurize": _featurize,
    "finalize": _finalize,
    "score": _score,
    "compress": _compress,
    "refine": _refine,
    "retrain": _retrain,
    "unroll": _unroll,
}
