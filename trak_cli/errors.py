"""User errors and their exit codes.

A stage raises one of these errors with all problems that it found, and the command line prints them. Any other exception is a
bug in this program and keeps its traceback (exit code 1).
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

#: How many problems of an error are printed; a checkpoint of another architecture has one for each of its tensors.
SHOWN_PROBLEMS = 24


@dataclass(frozen=True)
class Problem:
    """One problem: where it is, what was found, what was expected, and what to do.

    Attributes:
        where: the config key, file or sample.
        found: what is there.
        expected: what should be there.
        remedy: one action that fixes it.
    """

    where: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}; expected {self.expected}; {self.remedy}"


class TrakError(Exception):
    """Base class of user errors. It holds every problem found, equal ones once."""

    exit_code = 1
    headline = "trak stopped"

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(dict.fromkeys(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def raise_for(cls, problems: Iterable[Problem]) -> None:
        """Raise this error with all of the problems, if there are any."""
        if found := tuple(problems):
            raise cls(found)

    def lines(self) -> Iterator[tuple[Literal["headline", "place", "detail"], str]]:
        """What people read, line by line: of every problem its place, what was found, what was expected and what to do."""
        count = len(self.problems)
        yield "headline", self.headline + (f" ({count} problems)" if count > 1 else "")
        for problem in self.problems[:SHOWN_PROBLEMS]:
            yield "place", f"  {problem.where}"
            for label, text in (("found", problem.found), ("expected", problem.expected), ("do", problem.remedy)):
                yield "detail", f"    {label + ':':<10}{text}"
        if count > SHOWN_PROBLEMS:
            yield "place", f"  and {count - SHOWN_PROBLEMS} more"

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython and Jupyter show: the problems without a traceback, which TRAK_TRACEBACK adds."""
        whole = traceback.format_exception(self) if os.environ.get("TRAK_TRACEBACK") else []
        colours, kind = {"headline": "\x1b[1;31m", "place": "\x1b[1m", "detail": ""}, {"headline": f"{type(self).__name__}: "}
        return [*whole, *(f"{colours[style]}{kind.get(style, '')}{text}\x1b[0m" for style, text in self.lines())]


class ConfigError(TrakError):
    """Wrong usage or configuration (exit code 2). No work has started."""

    exit_code = 2
    headline = "the configuration cannot be used"


class StoreError(TrakError):
    """The store does not fit: another fingerprint, damaged or missing files (exit code 3). Nothing was overwritten."""

    exit_code = 3
    headline = "the store does not fit"


class InputError(TrakError):
    """The model, a checkpoint, the data or the ground truth was refused (exit code 4)."""

    exit_code = 4
    headline = "the model or the data was refused"


class MachineError(TrakError):
    """A problem of the machine: disk full, read-only, no such device, out of memory (exit code 5)."""

    exit_code = 5
    headline = "a problem of this machine"
