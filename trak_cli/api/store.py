"""A store, read from Python: what people do with finished scores. Each method calls the command of the same name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trak_cli.api.content import StoreContent
from trak_cli.api.live import holding
from trak_cli.api.progress import reporter_of
from trak_cli.api.scores import Scores
from trak_cli.api.stages import with_gradients
from trak_cli.api.wording import as_arguments, count_problems, options_of
from trak_cli.config.load import Loaded, load
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.random_states import random_states_kept
from trak_cli.results.samples import SampleSets
from trak_cli.types import TRAIN, Reporter
from trak_cli.user_errors import report_user_errors

if TYPE_CHECKING:
    import pandas


class Store(StoreContent):
    """A store: :func:`trak_cli.open_store` opens one, and :func:`trak_cli.attribute` returns the one that it made.

    Attributes:
        path: the folder.
    """

    def top(
        self, target: int | Sequence[int] | None = None, k: int = 5, *, split: str | None = None, estimator: str | None = None
    ) -> pandas.DataFrame:
        """The k most helpful and k most harmful training samples of targets, as a table (extra ``tables``).

        Args:
            target: one or several rows of the split; None: the first, or the group whose mean was scored.
            split, estimator: as for :meth:`scores`.

        Returns:
            A row for each sample, the most helpful first: ``target``, ``row`` of the training set, ``score``, ``label``, what
            the model predicts, and what the data set describes, such as ``text`` or ``image``. ``attrs`` has estimator, split
            and warnings.

        Raises:
            ConfigError: no such split or target, or fewer than k were kept.
            StoreError: there are no scores.
        """
        from trak_cli.api.tables import top_table
        from trak_cli.results.top import top

        ConfigError.raise_for(count_problems(k=k))
        targets = () if target is None else [int(row) for row in np.atleast_1d(target)]
        with self._reading(estimator) as loaded:
            samples = SampleSets(loaded.config)
            summary = top(loaded, reporter_of(False), split=split, targets=targets, k=k, samples=samples)
            return top_table(summary, samples[TRAIN])

    def suspects(
        self, k: int = 20, *, by: str | None = None, split: str | None = None, estimator: str | None = None
    ) -> pandas.DataFrame:
        """The training samples that are most likely to be mislabelled or harmful, as `trak suspects` ranks them.

        Args:
            k: how many.
            by: the criterion, such as "left_out" or "self_influence"; None: the first that the store can give.
            split, estimator: of the scores that give the harm, as for :meth:`scores`.

        Returns:
            A row for each sample, the most suspicious first, with a proposed label, every criterion, and what the data set
            describes (extra ``tables``).

        Raises:
            ConfigError, StoreError, InputError: see the classes.
        """
        from trak_cli.api.tables import suspects_table
        from trak_cli.results.suspects import suspects

        ConfigError.raise_for(count_problems(k=k))
        with self._reading(estimator) as loaded:
            summary = suspects(loaded, reporter_of(True), split=split, by=by, k=k)
            return suspects_table(summary, SampleSets(loaded.config)[TRAIN])

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
        with self._reading(estimator) as loaded:
            return select(loaded, reporter_of(False), choice=options_of(Choice, choice), out=path).rows

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

        with self._reading(estimator) as loaded:
            chosen = options_of(ReportOptions, {"out": Path(out), **options})
            return report(loaded, reporter_of(True), options=chosen).path

    def export(self, out: str | Path, *, estimator: str | None = None, **options: Any) -> Path:
        """Write the scores, or features, in the files of another program, as `trak export` does.

        Args:
            out: the file or folder; its suffix names the format.
            options: fields of :class:`~trak_cli.results.exchange.export.Export`: ``format="dattri"``, ``split="test"``,
                ``k=100``, ``features=True``, ``checkpoint=NAME``, ``overwrite=True``.

        Raises:
            ConfigError, StoreError, MachineError: see the classes.
        """
        from trak_cli.results.exchange.export import Export, export

        with self._reading(estimator) as loaded:
            export(loaded, reporter_of(True), to=options_of(Export, {"out": Path(out), **options}))
        return Path(out)

    def evaluate(self, *, split: str | None = None, estimator: str | None = None, **inputs: Any) -> pandas.DataFrame:
        """The metrics of `trak evaluate` for which something is known about the data (extra ``tables``).

        Args:
            inputs: fields of :class:`~trak_cli.results.evaluation.contract.Inputs`: ``flipped=[3, 17]`` or a file,
                ``classes=True``, …

        Returns:
            A row for each metric: its name, its value with a 95 % interval, how many targets or training samples it is over,
            and what it is for perfect scores. ``attrs["per_target"]`` has the values of single targets by metric.

        Raises:
            ConfigError, StoreError, InputError: see the classes.
        """
        from trak_cli.api.tables import metrics_table
        from trak_cli.results.evaluate import evaluate
        from trak_cli.results.evaluation.contract import Inputs

        given: dict[str, Any] = {name: Path(value) if isinstance(value, str) else value for name, value in inputs.items()}
        with self._reading(estimator) as loaded:
            return metrics_table(evaluate(loaded, reporter_of(True), inputs=options_of(Inputs, given), split=split))

    def score(self, targets: Any, *, candidates: int | None = None, progress: bool | Reporter = True) -> Scores:
        """The scores of new targets against the finished store, which is not changed.

        Args:
            targets: samples like those of the target splits: a data set, a list of samples, or a tuple or mapping of columns.
            candidates: score only so many training samples of each end of every target, which compressed features choose (see
                :func:`trak_cli.compress`); ``train_rows`` of the result are their rows. None: all.
            progress: as for the stages.

        Raises:
            ConfigError: the store was opened by :func:`trak_cli.open_store`, so there is no model.
            InputError, StoreError, MachineError: see the classes.
        """
        from trak_cli.api.datasets import as_dataset
        from trak_cli.results.new_scores import open_new
        from trak_cli.stages.compressing.recall import MOST

        if "model" not in self._objects:
            remedy = "call trak.attribute(..., store=PATH) again, which resumes, or run trak ask"
            raise ConfigError(Problem("score", "a store without its model", "the store that trak.attribute returned", remedy))
        problems: list[Problem] = []
        samples = as_dataset(targets, "targets", problems)
        InputError.raise_for(problems)
        ConfigError.raise_for(count_problems(candidates=candidates) if candidates is not None else [])
        reporter = reporter_of(progress)
        with as_arguments(), holding(self._objects), report_user_errors("your code"), with_gradients(), random_states_kept():
            new = open_new(load("ask", None, None, (), self._values), reporter, samples, candidates)
            chosen = new.choose(candidates, reporter)
            found = np.concatenate([block for _, block in new.scores(chosen, reporter)], axis=1)
        about: dict[str, Any] = {}
        if chosen is not None:
            about = {"train_rows": chosen.rows, "candidates": chosen.sentence(new.inventory.rows, min(chosen.count, MOST))}
            reporter.log(about["candidates"])
        names = (new.estimator, "new targets")
        return Scores(names, range(len(found)), found.shape[1], lambda *rows: found[np.ix_(*rows)], **about)

    @contextmanager
    def _reading(self, estimator: str | None) -> Iterator[Loaded]:
        """The configuration of a command that reads scores; inside, its plugins are the objects, and errors name arguments."""
        with as_arguments(), holding(self._objects):
            yield self._loaded(self._name(estimator))
