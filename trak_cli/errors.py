"""Everything that can go wrong through no fault of the program, and the exit code of each kind.

A stage never prints and never exits: it raises one of these with *all* the problems it found, and the command line
shows them. Any other exception is a bug in this program and keeps its traceback (exit code 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what was found there, what was expected, and what to do about it.

    Attributes:
        where: the config key, the file, or the sample that is meant.
        found: what is there.
        expected: what should be there.
        remedy: one action that mends it.
    """

    where: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}; expected {self.expected}; {self.remedy}"


class TrakError(Exception):
    """Base of all user errors; carries every problem found, not only the first."""

    exit_code = 1
    headline = "trak stopped"

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConfigError(TrakError):
    """Bad usage or a bad configuration (exit code 2): nothing has been started."""

    exit_code = 2
    headline = "the configuration cannot be used"


class StoreError(TrakError):
    """A store that does not fit: other fingerprint, damaged or missing shards (exit code 3). Nothing was overwritten."""

    exit_code = 3
    headline = "the store does not fit"


class InputError(TrakError):
    """The model, a checkpoint, the data or the ground truth was refused (exit code 4)."""

    exit_code = 4
    headline = "the model or the data was refused"


class MachineError(TrakError):
    """The machine could not do it: disk full, read-only, no such device, too little memory (exit code 5)."""

    exit_code = 5
    headline = "the machine could not do it"
