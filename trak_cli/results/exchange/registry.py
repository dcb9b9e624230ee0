"""The formats by name: which of them can be written and read, and which one a path has."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from trak_cli.config.wording import one_of, unknown
from trak_cli.errors import ConfigError, Problem
from trak_cli.results.exchange.contract import ScoreTable, Source
from trak_cli.types import AnyArray, Rows
from trak_cli.user_files import parsing


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        module: in ``formats``, imported when the format is used.
        suffixes: of its files; none for a folder.
        writes: scores can be exported.
        features: features can be exported.
        extremes: the highest and lowest scores alone can be exported.
        marks: files that tell a folder of this format.
    """

    module: str
    suffixes: tuple[str, ...]
    writes: bool = True
    features: bool = False
    extremes: bool = False
    marks: tuple[str, ...] = ()

    def load(self) -> ModuleType:
        """The module, with ``read`` and, if scores can be exported, ``write``."""
        return importlib.import_module(f"trak_cli.results.exchange.formats.{self.module}")


FORMATS: dict[str, Format] = {
    "csv": Format("csv_scores", (".csv",), extremes=True),
    "parquet": Format("parquet_scores", (".parquet",), features=True, extremes=True),
    "npz": Format("npz", (".npz", ".npy", ".safetensors", ".h5", ".hdf5"), features=True),
    "zarr": Format("zarr_scores", (), features=True, marks=("zarr.json",)),
    "bergson": Format("bergson", (), marks=("scores.bin", "info.json")),
    "dattri": Format("dattri", (".pt", ".pth")),
    "quanda": Format("quanda", (), marks=("0.pt",)),
    "date-lm": Format("date_lm", (".json",)),
    "traker": Format("traker", (), writes=False, marks=("experiments.json",)),
}


def chosen_format(path: Path, name: str | None, *, to_write: bool) -> tuple[str, Format]:
    """The format of a name, or else of a path: by its suffix, or by the files of a folder.

    Raises:
        ConfigError: there is no such format, it cannot be written, or the path does not tell.
    """
    known = [one for one, format in FORMATS.items() if format.writes or not to_write]
    if name is None:
        name = next((one for one in known if _fits(path, one)), None)
    if name not in known:
        if name is not None:
            raise ConfigError(unknown("--format", name, known))
        raise ConfigError(
            Problem("--format", "nothing, and the path does not tell", one_of(known), "say which format the file has")
        )
    return name, FORMATS[name]


def read_table(format: Format, source: Source) -> ScoreTable:
    """The scores of a file or folder; exceptions of the packages that read it become user errors, also while blocks are read.

    Raises:
        InputError: it cannot be read.
    """
    expected, remedy = "scores of this format", "correct --file or --format, or write the file again"
    with parsing(source.path, expected, remedy):
        table: ScoreTable = format.load().read(source)

    def block(targets: Rows, rows: Rows) -> AnyArray:
        with parsing(source.path, expected, remedy):
            return np.asarray(table.read(targets, rows))

    return replace(table, read=block)


def _fits(path: Path, name: str) -> bool:
    format = FORMATS[name]
    if path.suffix in format.suffixes or path.suffix == f".{name}":
        return True
    return bool(format.marks) and path.is_dir() and all((path / mark).exists() for mark in format.marks)
