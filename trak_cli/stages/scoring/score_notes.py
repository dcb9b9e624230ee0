"""What a command reported about the scores that it wrote, stored beside them, so that readers can repeat its warnings."""

from __future__ import annotations

from collections.abc import Sequence

from trak_cli.store.failures import MissingError
from trak_cli.store.json_files import read_json, replace_json
from trak_cli.store.layout import Layout
from trak_cli.store.safety.records import understanding
from trak_cli.types import Json

_WARNINGS = "warnings"


def write_notes(layout: Layout, estimator: str, split: str, warnings: Sequence[str], report: Json) -> None:
    """Store the warnings and the report of a command beside its scores; earlier ones are replaced.

    Raises:
        MachineError: they cannot be written.
    """
    replace_json(layout.scores_notes(estimator, split), {**report, _WARNINGS: list(warnings)})


def read_notes(layout: Layout, estimator: str, split: str) -> Json:
    """The stored report with its warnings; empty if there is none.

    Raises:
        StoreError, MachineError: the file is damaged or cannot be read.
    """
    try:
        return read_json(layout.scores_notes(estimator, split))
    except MissingError:
        return {}


def read_warnings(layout: Layout, estimator: str, split: str) -> list[str]:
    """The stored warnings about scores.

    Raises:
        StoreError, MachineError: the file is damaged or cannot be read.
    """
    with understanding(layout.scores_notes(estimator, split), "the notes of scores"):
        return [str(warning) for warning in read_notes(layout, estimator, split).get(_WARNINGS, [])]
