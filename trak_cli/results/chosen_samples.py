"""Files of chosen training samples: row numbers, JSON records, or a folder for the package ``datasets``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.optional import needed
from trak_cli.results.samples import Samples
from trak_cli.store.atomic_write import replace
from trak_cli.store.failures import reading


def check_selection(path: Path, samples: Samples | None) -> None:
    """Check that the samples can be written, before any work.

    Raises:
        ConfigError: another suffix, a folder that holds something, no data set, or a package that is not installed.
    """
    where = f"--out {path}"
    if path.suffix not in ("", ".txt", ".jsonl"):
        expected = "a .txt file, a .jsonl file, or a folder (no suffix)"
        raise ConfigError(Problem("--out", str(path), expected, f"for example --out {path.stem or 'chosen'}.jsonl"))
    if path.suffix and path.is_dir():
        raise ConfigError(Problem("--out", f"{path}, a folder", "a file", "choose another name"))
    if path.suffix:
        return
    needed("datasets", "text", where)
    if samples is None:
        remedy = "give dataset.train, or write row numbers: --out chosen.txt"
        raise ConfigError(Problem("dataset.train", "nothing", f"the training set, for {where}", remedy))
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(Problem("--out", f"{path}, which exists", "a new or an empty folder", "choose another name"))


def write_selection(path: Path, rows: Sequence[int], scores: Sequence[float], samples: Samples | None) -> None:
    """Write the samples in the given order; an existing file is replaced.

    A record has the row, the score, and what :meth:`~trak_cli.results.samples.Samples.record` gives.

    Raises:
        MachineError: it cannot be written.
        InputError: the data set cannot give a record.
    """
    if path.suffix == ".txt":
        replace(path, "".join(f"{row}\n" for row in rows).encode())
        return
    records = _records(rows, scores, samples)
    if path.suffix == ".jsonl":
        replace(path, "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records).encode())
        return
    datasets = needed("datasets", "text", f"--out {path}")
    datasets.disable_progress_bars()
    with reading(path, "writing"):
        datasets.Dataset.from_list(list(records)).save_to_disk(str(path))


def _records(rows: Sequence[int], scores: Sequence[float], samples: Samples | None) -> Iterator[dict[str, Any]]:
    for row, score in zip(rows, scores, strict=True):
        yield {**({} if samples is None else samples.record(row)), "row": row, "score": score}
