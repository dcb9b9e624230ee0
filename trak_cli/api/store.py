"""A store, read from Python: what it holds, its scores, and what people do with them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trak_cli.api.html import card
from trak_cli.api.live import Make, holding
from trak_cli.api.progress import reporter_of
from trak_cli.api.scores import Scores
from trak_cli.api.stages import with_gradients
from trak_cli.api.wording import as_arguments
from trak_cli.config.compose.files import config_groups
from trak_cli.config.load import Loaded, load
from trak_cli.config.stored import read_stored
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.results.samples import open_samples
from trak_cli.results.scored import open_scored
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.scoring.score_notes import read_warnings
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Reporter, listed
from trak_cli.user_errors import report_user_errors

if TYPE_CHECKING:
    import pandas


class Store:
    """A store: :func:`trak_cli.open_store` opens one, and :func:`trak_cli.attribute` returns the one that it made.

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
        from trak_cli.api.tables import top_table
        from trak_cli.results.top import top

        targets = () if target is None else [int(row) for row in np.atleast_1d(target)]
        loaded = self._loaded(self._name(estimator))
        with as_arguments(), holding(self._objects):
            summary = top(loaded, reporter_of(False), split=split, targets=targets, k=k)
            return top_table(summary, open_samples(loaded.config, TRAIN))

    def suspects(
        self, k: int = 20, *, by: str | None = None, split: str | None = None, estimator: str | None = None
    ) -> pandas.DataFrame:
        """The training samples that are most likely to be mislabelled or harmful, as `trak suspects` ranks them.

        Args:
            k: how many.
            by: the criterion, such as "left_out" or "self_influence"; None: the first that the store can give.
            split, estimator: of the scores that give the harm, as for :meth:`scores`.

        Returns:
            A row for each sample, the most suspicious first, with a proposed label and every criterion (extra ``tables``).

        Raises:
            ConfigError, StoreError, InputError: see the classes.
        """
        from trak_cli.api.tables import suspects_table
        from trak_cli.results.suspects import suspects

        with as_arguments(), holding(self._objects):
            return suspects_table(suspects(self._loaded(self._name(estimator)), reporter_of(True), split=split, by=by, k=k))

    def select(self, *, estimator: str | None = None, out: str | Path | None = None, **choice: Any) -> list[int]:
        """The rows of the training samples that help a group of targets most, best first, as `trak select` chooses them.

        Args:
            out: a .txt or .jsonl file to write, or a folder for ``datasets``.
            choice: fields of :class:`~trak_cli.results.select.Choice`: ``k=100`` or ``share=0.1``, ``splits=["test"]``,
                ``targets=[0, 7]``, ``group="max"``, ``bottom=True``, ``balance=True``.

        Raises:
            ConfigError, StoreError, InputError: see the classes.
        """
        from trak_cli.results.select import Choice, select

        path = None if out is None else Path(out)
        loaded = self._loaded(self._name(estimator))
        with as_arguments(), holding(self._objects):
            return select(loaded, reporter_of(False), choice=Choice(**choice), out=path).rows

    def report(self, out: str | Path, *, estimator: str | None = None, **options: Any) -> Path:
        """Write an HTML page of targets beside their most helpful and harmful training samples, as `trak report` does.

        Args:
            out: the file.
            options: fields of :class:`~trak_cli.results.report.ReportOptions`: ``splits=["test"]``, ``targets=[0, 7]``,
                ``most=100``, ``k=5``, ``suspects=30``, ``max_mb=20``.

        Raises:
            ConfigError, StoreError, InputError, MachineError: see the classes.
        """
        from trak_cli.results.report import ReportOptions, report

        loaded = self._loaded(self._name(estimator))
        with as_arguments(), holding(self._objects):
            return report(loaded, reporter_of(True), options=ReportOptions(Path(out), **options)).path

    def score(self, targets: Any, *, progress: bool | Reporter = True) -> Scores:
        """The scores of new targets against the finished store, which is not changed.

        Args:
            targets: samples like those of the target splits: a data set, a list of samples, or a tuple or mapping of columns.
            progress: as for the stages.

        Raises:
            ConfigError: the store was opened by :func:`trak_cli.open_store`, so there is no model.
            InputError, StoreError, MachineError: see the classes.
        """
        from trak_cli.api.datasets import as_dataset
        from trak_cli.results.new_scores import open_new

        if "model" not in self._objects:
            remedy = "call trak.attribute(..., store=PATH) again, which resumes, or run trak ask"
            raise ConfigError(Problem("score", "a store without its model", "the store that trak.attribute returned", remedy))
        problems: list[Problem] = []
        samples = as_dataset(targets, "targets", problems)
        InputError.raise_for(problems)
        with holding(self._objects), report_user_errors("your code"), with_gradients():
            new = open_new(load("ask", None, None, (), self._values), reporter_of(progress), samples)
            found = np.concatenate([block for _, block in new.blocks()], axis=1)
        return Scores((new.estimator, "new targets"), range(len(found)), found.shape[1], lambda *rows: found[np.ix_(*rows)])

    def __repr__(self) -> str:
        return "\n  ".join([f"<trak store {self.path}>", *(f"{name}: {value}" for name, value in self._about().items())])

    def _repr_html_(self) -> str:
        return card(f"Store {self.path}", self._about())

    def _about(self) -> dict[str, str]:
        scored = [(name, split) for name, splits in self.estimators.items() for split in splits]
        return {
            "splits": ", ".join(f"{name} ({rows:,})" for name, rows in self.splits.items()),
            "checkpoints": listed(self.checkpoints, 5),
            "scores": ", ".join(f"{name} of {split}" for name, split in scored) or "none yet",
            **{
                f"warning {number} about {name} of {split}": warning
                for name, split in scored
                for number, warning in enumerate(read_warnings(self._layout, name, split), 1)
            },
        }

    def _name(self, estimator: str | None) -> str:
        """The name of scores that were asked for: that one, the one of the run, or the only one."""
        known = list(self.estimators)
        usual = list(self._loaded(None).config.estimator.names)[-1]
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
