"""What a store holds, read from Python."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.api.html import card
from trak_cli.api.live import Make
from trak_cli.api.scores import Scores
from trak_cli.api.wording import as_arguments
from trak_cli.config.compose.files import config_groups
from trak_cli.config.load import Loaded, load
from trak_cli.config.stored import read_stored
from trak_cli.errors import ConfigError, Problem
from trak_cli.results.scored import open_scored
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.scoring.score_notes import read_warnings
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, AnyArray, listed


class StoreContent:
    """The part of :class:`~trak_cli.api.store.Store` that reads files as they are.

    Attributes:
        path: the folder.
    """

    def __init__(
        self,
        path: Path,
        values: Mapping[str, Any],
        objects: Mapping[str, Make],
        folder: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        """A store with the objects that stand for its plugins; use :func:`trak_cli.open_store` instead.

        Args:
            values: the configuration by dotted key.
            objects: key -> a function that returns the object of that plugin (:mod:`trak_cli.api.live`).
            folder: a temporary folder that is removed with this object.
        """
        self.path = path
        self._layout, self._values, self._objects, self._folder = Layout(path), values, objects, folder
        self._known: dict[str | None, Loaded] = {}

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
        with as_arguments():
            scored = open_scored(self._loaded(self._name(estimator)), split)
            scored.require_dense()
        names, grouped = (scored.estimator, scored.split), scored.group is not None
        rows = scored.target_rows if scored.group is None else scored.group
        return Scores(names, rows, scored.rows, scored.pick, group=grouped, warnings=scored.warnings, owner=self)

    def features(self, split: str = TRAIN, checkpoint: str | None = None) -> dict[str, AnyArray]:
        """The features of a split under one checkpoint, read whole; :meth:`~trak_cli.api.store.Store.export` with
        ``features=True`` writes them in blocks.

        Args:
            split: "train" is the training set.
            checkpoint: its name, or a pattern that only one name matches; None: the only one.

        Returns:
            ``features`` (rows, k) float32, ``outputs``, the f of every sample (rows,), ``out_to_loss``, its q (rows,), and
            ``sample_ids`` (rows,) uint64, the digests of the samples.

        Raises:
            ConfigError: there are several checkpoints and none was chosen, or there is no such one.
            StoreError: the store has no such split, or a shard is missing or damaged.
        """
        from trak_cli.results.exchange.feature_arrays import feature_arrays

        with as_arguments():
            stream = feature_arrays(self._loaded(None).config, split, checkpoint)
            found = {name: np.empty(shape, dtype) for name, (shape, dtype) in stream.arrays.items()}
            for name, place, values in stream.parts():
                found[name][place] = values
        return found

    def __repr__(self) -> str:
        return "\n  ".join([f"<trak store {self.path}>", *(f"{name}: {value}" for name, value in self._about().items())])

    def _repr_html_(self) -> str:
        return card(f"Store {self.path}", self._about())

    def _about(self) -> dict[str, str]:
        scored = [(name, split) for name, splits in self.estimators.items() for split in splits]
        names = [f"{name} of {', '.join(splits)}" for name, splits in self.estimators.items()]
        return {
            **({} if self._folder is None else {"folder": "temporary, removed with this object; store=PATH keeps it"}),
            "splits": ", ".join(f"{name} ({rows:,})" for name, rows in self.splits.items()),
            "checkpoints": listed(self.checkpoints, 5),
            "scores": "; ".join(names) or "none yet",
            **{
                f"warning {number} about {name} of {split}": warning
                for name, split in scored
                for number, warning in enumerate(read_warnings(self._layout, name, split), 1)
            },
        }

    def _name(self, estimator: str | None) -> str:
        """The name of scores that were asked for: that one, the one of the run, or the only one."""
        known = list(self.estimators)
        usual, _ = self._loaded(None).config.estimator.shown
        if estimator is not None or usual in known or not known:
            return estimator or usual
        if len(known) > 1:
            found, remedy = "nothing", f"choose one, for example estimator={known[0]!r}"
            raise ConfigError(Problem("estimator", found, f"one of: {', '.join(known)}", remedy))
        return known[0]

    def _loaded(self, estimator: str | None) -> Loaded:
        """The configuration of a command that reads the scores of an estimator; None: of the estimator of the run."""
        if estimator not in self._known:
            values = dict(self._values)
            if estimator is not None:
                names = self._loaded(None).config.estimator.names
                count = names.get(estimator)
                values["estimator.checkpoint_counts"] = [] if count is None else [count]
                if estimator not in names:
                    shipped = estimator in config_groups()["estimator"]
                    values["estimator" if shipped else "estimator.name"] = estimator
            self._known[estimator] = load("top", None, None, (), values)
        return self._known[estimator]
