"""Opening everything that is evaluated: estimators of the store and files of ``lds.scores``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from trak_cli.errors import InputError, Problem, StoreError
from trak_cli.stages.evaluation.foreign_scores import ForeignScores
from trak_cli.stages.evaluation.score_source import ScoreSource, stored_scores
from trak_cli.stages.scoring.score_notes import read_warnings
from trak_cli.store.layout import Layout
from trak_cli.types import Reporter


@dataclass
class Problems:
    """Collects the problems of several files, so that they are reported together."""

    store: list[Problem] = field(default_factory=list)
    inputs: list[Problem] = field(default_factory=list)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep the problems of an InputError or StoreError, and go on."""
        try:
            yield
        except StoreError as error:
            self.store += error.problems
        except InputError as error:
            self.inputs += error.problems

    def require_none(self) -> None:
        """Raise everything that was collected.

        Raises:
            StoreError: if the store has a problem.
            InputError: if only files of users have.
        """
        if self.store or self.inputs:
            raise (StoreError if self.store else InputError)([*self.store, *self.inputs])


@dataclass(frozen=True)
class ScoredSplit:
    """A target split of a store: its name, its number of targets, and the number of training rows."""

    layout: Layout
    split: str
    targets: int
    training_rows: int

    def open(self, names: Iterable[str], files: Mapping[str, str], reporter: Reporter) -> list[ScoreSource]:
        """The scores of estimators in the store, and of files.

        Args:
            names: of estimators.
            files: name -> file, as in ``lds.scores``.

        Raises:
            StoreError, InputError: the problems of all of them.
        """
        problems = Problems()
        sources = []
        for name in names:
            with problems.collected():
                sources.append(stored_scores(self.layout, name, self.split, self.targets, self.training_rows))
                for warning in read_warnings(self.layout, name, self.split):
                    reporter.log(f"warning: scores of {name}: {warning}")
        foreign = ForeignScores(self.layout, self.split, self.targets, self.training_rows, reporter)
        for name, file in files.items():
            with problems.collected():
                sources.append(foreign.open(name, Path(file)))
        problems.require_none()
        return sources
