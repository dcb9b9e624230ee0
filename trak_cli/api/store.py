"""A store, read from Python: what it holds, its scores, and what people do with them."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trak_cli.api.html import card
from trak_cli.api.live import Make, holding, node_of
from trak_cli.api.progress import Progress
from trak_cli.api.scores import Scores
from trak_cli.config.compose.plugin_import import use_folder
from trak_cli.config.load import Loaded, load
from trak_cli.config.stored import read_stored
from trak_cli.config.validate.plugins import instantiate
from trak_cli.errors import ConfigError, Problem, StoreError
from trak_cli.plugins.optional import needed
from trak_cli.results.samples import Samples, dataset_key, open_samples
from trak_cli.results.scored import open_scored
from trak_cli.results.top import top
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN

if TYPE_CHECKING:
    import pandas


def open_store(path: str | Path, *, datasets: bool | Mapping[str, Any] = False, config_dir: str | Path | None = None) -> Store:
    """A finished store. Opening it reads files as data and runs no code that the store names.

    A store may come from somebody else, and its configuration names classes of the data sets. They describe rows by text,
    label and image, but building them imports and runs code, so this is done only if you ask for it.

    Args:
        path: the folder (``store`` of the configuration).
        datasets: the samples that describe rows. False: none, so that rows have numbers and scores only. True: build the
            data sets that the store's config.yaml names, which runs their code: for stores that you trust. Or your own
            objects: split name -> data set, ``{"train": …, "test": …}``.
        config_dir: folder with the modules of these plugins (``-d`` of the command line).

    Raises:
        StoreError: there is no store.
        ConfigError, InputError: a data set cannot be built.
    """
    root = Path(path).expanduser()
    layout = Layout(root)
    if not layout.config.is_file() and not layout.described_splits():
        found = "no such folder" if not root.is_dir() else "a folder without config.yaml and splits"
        raise StoreError(Problem(str(root), found, "the store of a run", "correct the path, or run trak featurize first"))
    if config_dir is not None:
        use_folder(Path(config_dir))
    nodes = _named_datasets(read_stored(layout.config)) if datasets is True else {}
    given = (
        datasets
        if isinstance(datasets, Mapping)
        else {split: instantiate(node, dataset_key(split)) for split, node in nodes.items()}
    )
    return Store(root, objects={dataset_key(split): functools.partial(_same, data) for split, data in given.items()})


class Store:
    """A store: ``open_store`` opens one, and ``attribute`` returns the one that it made.

    Attributes:
        path: the folder.
    """

    def __init__(
        self,
        path: Path,
        *,
        values: Mapping[str, Any] | None = None,
        objects: Mapping[str, Make] | None = None,
        folder: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        """A store with the objects that stand for its plugins.

        Args:
            values: the configuration of the run by dotted key; None: of a store that is only read.
            objects: key -> a function that returns the object of that plugin (:mod:`trak_cli.api.live`).
            folder: a temporary folder that is removed with this object.
        """
        self.path = path
        self._layout, self._folder = Layout(path), folder
        self._objects = dict(objects or {})
        self._values = values
        self._loaded = functools.cache(self._load)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the run that made the store, as data: plugins are mappings with ``_target_``."""
        return read_stored(self._layout.config)

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints with features."""
        return self._layout.checkpoints()

    @property
    def splits(self) -> dict[str, int]:
        """Split name -> number of rows; "train" is the training set."""
        return {split: rows_of(self._layout, split) for split in self._layout.described_splits()}

    @property
    def estimators(self) -> dict[str, list[str]]:
        """Estimator name -> splits with complete scores."""
        found = {name: self._layout.scored_splits(name) for name in self._layout.estimators()}
        return {name: splits for name, splits in found.items() if splits}

    def scores(self, split: str | None = None, estimator: str | None = None) -> Scores:
        """The scores of a split, as an array that is read on demand.

        Args:
            split: None: the only one that has scores.
            estimator: None: the one of the run, or the only one.

        Raises:
            ConfigError: several would fit.
            StoreError: there are no scores, or only the highest and lowest of each target (``score.top_k``).
        """
        scored = open_scored(self._loaded(self._estimator(estimator)), split)
        scored.require_dense()
        names, grouped = (scored.estimator, scored.split), scored.group is not None
        rows = scored.target_rows if scored.group is None else scored.group
        return Scores(names, rows, scored.rows, scored.pick, group=grouped, warnings=scored.warnings)

    def top(
        self, target: int | Sequence[int] | None = None, k: int = 5, *, split: str | None = None, estimator: str | None = None
    ) -> pandas.DataFrame:
        """The k most helpful and k most harmful training samples of targets, as a table (extra ``tables``).

        Args:
            target: one or several rows of the split; None: the first, or the group whose mean was scored.
            split, estimator: as for :meth:`scores`.

        Returns:
            A row for each sample, the most helpful first: ``target``, ``row`` of the training set, ``score``, ``label``,
            ``description``, and what the data set describes, such as ``text`` or ``image``. ``attrs`` has estimator, split and
            warnings.

        Raises:
            ConfigError: no such split or target, or fewer than k were kept.
            StoreError: there are no scores.
        """
        frames = needed("pandas", "tables", "top")
        loaded = self._loaded(self._estimator(estimator))
        targets = [] if target is None else [target] if isinstance(target, int) else [int(row) for row in target]
        with holding(self._objects):
            summary = top(loaded, Progress(bars=False), split=split, targets=targets, k=k)
            samples = open_samples(loaded.config, TRAIN)
        rows = [
            {
                "target": found.row,
                "row": one.row,
                "score": one.score,
                **_described(samples, one.row),
                "description": one.description,
            }
            for found in summary.targets
            for one in [*found.helpful, *reversed(found.harmful)]
        ]
        frame = frames.DataFrame(rows, columns=_columns(rows))
        frame.attrs = {"estimator": summary.estimator, "split": summary.split, "warnings": summary.warnings}
        return frame

    def __repr__(self) -> str:
        return "\n  ".join([f"<trak store {self.path}>", *(f"{name}: {value}" for name, value in self._about().items())])

    def _repr_html_(self) -> str:
        return card(f"Store {self.path}", self._about())

    def _about(self) -> dict[str, str]:
        checkpoints = self.checkpoints
        scored = [f"{name} ({', '.join(splits)})" for name, splits in self.estimators.items()]
        about = {
            "splits": ", ".join(f"{name} ({rows:,})" for name, rows in self.splits.items()),
            "checkpoints": ", ".join(checkpoints[:5]) + (f" and {len(checkpoints) - 5} more" if len(checkpoints) > 5 else ""),
            "scores": ", ".join(scored) or "none yet",
        }
        for name, splits in self.estimators.items():
            for split in splits:
                for number, warning in enumerate(open_scored(self._loaded(name), split).warnings, 1):
                    about[f"warning {number} about {name}, {split}"] = warning
        return about

    def _estimator(self, name: str | None) -> str:
        """The name of scores that were asked for: that one, the one of the run, or the only one."""
        known, config = list(self.estimators), self.config.get("estimator", {})
        counts = config.get("checkpoint_counts") or []
        usual = f"{config.get('name')}-{counts[-1]}" if counts else config.get("name")
        if name is not None or len(known) == 1 or usual in known or not known:
            return name or (usual if usual in known or not known else known[0]) or "early_training"
        expected, remedy = f"one of: {', '.join(known)}", f"choose one, for example estimator={known[0]!r}"
        raise ConfigError(Problem("estimator", "nothing", expected, remedy))

    def _load(self, estimator: str) -> Loaded:
        """The configuration of a command that reads these scores, with the data sets that are held."""
        split_of = {dataset_key(split): split for split in self.splits}
        nodes = {split_of[key]: node_of(key) for key in self._objects if key in split_of}
        values = {
            "store": self.path,
            "estimator.name": estimator,
            "dataset.train": nodes.pop(TRAIN, None),
            "dataset.targets": nodes,
        }
        return load("top", None, None, (), values)


def _same(value: Any) -> Any:
    return value


def _named_datasets(config: Mapping[str, Any]) -> dict[str, Any]:
    """Split name -> the plugin node of its data set."""
    dataset = config.get("dataset") or {}
    nodes = {TRAIN: dataset.get("train"), **(dataset.get("targets") or {})}
    return {split: node for split, node in nodes.items() if node is not None}


def _described(samples: Samples | None, row: int) -> dict[str, Any]:
    """The label of a training sample and what its data set describes; empty without a data set."""
    return {} if samples is None else {"label": samples.label(row), **samples.description(row)}


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    named = dict.fromkeys(name for row in rows for name in row)
    first = [name for name in ("target", "row", "score", "label", "description") if name in named] or ["target", "row", "score"]
    return [*first, *(name for name in named if name not in first)]
