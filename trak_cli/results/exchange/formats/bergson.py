"""The score folder of bergson 2.5: scores.bin, info.json and config.yaml.

``scores.bin`` has one record for each training row, with a score and a flag for each query. ``config.yaml`` says whether a
higher score is a proponent (``score_cfg.higher_is_better``); where it is false, the sign is turned on import.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.results.exchange.contract import ScoreStream, ScoreTable, Source, unreadable
from trak_cli.results.exchange.staging import reserve
from trak_cli.types import AnyArray, Json, Rows
from trak_cli.user_files import parse_json, read_bytes, read_text
from trak_cli.user_yaml import parse_yaml

#: The files of the folder.
FILES = ("scores.bin", "info.json", "config.yaml")

_NO_CONFIG = "the folder has no config.yaml with score_cfg.higher_is_better, so higher scores were taken as more helpful"


def write(path: Path, stream: ScoreStream) -> None:
    """Write the folder, with ``higher_is_better: true``."""
    targets, rows = stream.shape
    path.mkdir()
    formats = [kind for _ in range(targets) for kind in ("float32", "bool")]
    names = [name for target in range(targets) for name in (f"score_{target}", f"written_{target}")]
    offsets = [offset for target in range(targets) for offset in (8 * target, 8 * target + 4)]
    dtype = {"names": names, "formats": formats, "offsets": offsets, "itemsize": 8 * targets}
    info = {"attribute_tokens": False, "num_items": rows, "num_rows": rows, "num_scores": targets, "dtype": dtype}
    # A score and its flag take eight bytes, so that the records are a matrix of such pairs.
    pair = np.dtype({"names": ["score", "written"], "formats": ["<f4", "?"], "offsets": [0, 4], "itemsize": 8})
    records = np.memmap(path / "scores.bin", pair, "w+", shape=(rows, targets))
    reserve(path / "scores.bin")
    for places, training, block in stream.blocks():
        part = records[training.start : training.stop, places.start : places.stop]
        part["score"], part["written"] = block.T, True
    records.flush()
    (path / "info.json").write_text(json.dumps(info, indent=2))
    step = {"score": {"score_cfg": {"higher_is_better": True}}}
    (path / "config.yaml").write_text(json.dumps({"steps": [step], "metadata": stream.about}, indent=2))  # JSON is YAML


def is_ours(path: Path) -> bool:
    """Whether a file of a folder is one of a score folder."""
    return path.name in FILES


def read(source: Source) -> ScoreTable:
    """The scores of a folder. Those of tokens are added up for each training sample.

    Raises:
        InputError: a file is missing or damaged, scores are not written yet, or are of some training rows only.
    """
    info = _info(source.path)
    if (source.path / "candidates.npy").exists():
        raise unreadable(source.path, "scores of candidates only (candidates.npy)", "scores of every training row")
    records = _records(source.path, info)
    bounds = _bounds(source.path, info)
    higher_is_better = _orientation(source.path)
    sign = np.float32(-1 if higher_is_better is False else 1)

    def block(targets: Rows, rows: Rows) -> AnyArray:
        first, last = (rows.start, rows.stop) if bounds is None else (int(bounds[rows.start]), int(bounds[rows.stop]))
        part = np.empty((len(targets), len(rows)), np.float32)
        for place, target in enumerate(targets):
            if not records[f"written_{target}"][first:last].all():
                raise unreadable(source.path, f"unwritten scores of query {target}", "finished scores")
            values = _floats(records[f"score_{target}"][first:last])
            part[place] = values if bounds is None else _sums(values, bounds[rows.start : rows.stop + 1] - first)
        return sign * part

    notes = (_NO_CONFIG,) if higher_is_better is None else ()
    return ScoreTable((info["num_scores"], info["num_items"]), block, None, notes)


def _info(path: Path) -> Json:
    try:
        info = parse_json(read_bytes(path / "info.json"))
        counts = [info["num_items"], info["num_rows"], info["num_scores"]]
        if not all(isinstance(count, int) and count > 0 for count in counts) or not isinstance(info["dtype"], dict):
            raise ValueError("without positive counts and a dtype")
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = f"no description of scores ({error})"
        raise unreadable(path / "info.json", found, "num_items, num_rows, num_scores and dtype") from error
    return dict(info)


def _records(path: Path, info: Json) -> Any:
    try:
        dtype = _record(info["dtype"])
        names = set(dtype.names or ())
        if 2 * info["num_scores"] > len(names):
            raise ValueError(f"{info['num_scores']} scores in a record of {len(names)} fields")
        if {f"{kind}_{target}" for target in range(info["num_scores"]) for kind in ("score", "written")} - names:
            raise ValueError("a dtype without score_0, written_0, …")
        return np.memmap(path / "scores.bin", dtype, "r", shape=(info["num_rows"],))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise unreadable(path / "scores.bin", f"other records than info.json says ({error})", "the records of it") from error


def _record(described: Json) -> np.dtype[Any]:
    """The dtype of a record, from its parts. NumPy does not notice a field that lies far outside the record.

    Raises:
        ValueError, TypeError, KeyError: it is no record of numbers.
    """
    # bfloat16 is read as its bits, because NumPy has no such dtype.
    formats = [np.dtype("<u2" if kind == "bfloat16" else str(kind)) for kind in described["formats"]]
    names, offsets, size = described["names"], described["offsets"], described["itemsize"]
    whole = [size, *offsets]
    if not all(type(number) is int and 0 <= number < 2**31 for number in whole) or not all(map(_is_plain, formats)):
        raise ValueError("a record that does not consist of numbers")
    if any(offset + kind.itemsize > size for offset, kind in zip(offsets, formats, strict=True)):
        raise ValueError("a field outside its record")
    return np.dtype({"names": [str(name) for name in names], "formats": formats, "offsets": offsets, "itemsize": size})


def _is_plain(kind: np.dtype[Any]) -> bool:
    return kind.kind in "fiub" and kind.subdtype is None


def _bounds(path: Path, info: Json) -> Any:
    """Where the tokens of every training sample begin and end, (n + 1,); None for scores of samples."""
    if not info.get("attribute_tokens"):
        return None
    try:
        bounds = np.load(path / "offsets.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path / "offsets.npy", f"an unreadable array ({error})", "where tokens begin") from error
    expected = (info["num_items"] + 1,)
    if bounds.shape != expected or bounds.dtype.kind not in "iu" or bounds[0] or bounds[-1] != info["num_rows"]:
        raise unreadable(path / "offsets.npy", f"{bounds.dtype} {bounds.shape}", f"{expected[0]} places up to num_rows")
    return bounds.astype(np.int64)


def _sums(values: AnyArray, bounds: AnyArray) -> AnyArray:
    totals: AnyArray = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return totals[bounds[1:]] - totals[bounds[:-1]]


def _floats(values: AnyArray) -> AnyArray:
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def _orientation(path: Path) -> bool | None:
    """``score_cfg.higher_is_better`` of the first step that has a ``score_cfg``; None if nothing says it."""
    file = path / "config.yaml"
    if not file.exists():
        return None
    try:
        steps = parse_yaml(read_text(file))["steps"]
        configs = [command.get("score_cfg") for step in steps for command in step.values() if command]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(file, f"no steps of bergson ({type(error).__name__})", "the config.yaml that bergson wrote") from error
    chosen = next((config for config in configs if config is not None), None)
    return None if chosen is None else bool(chosen.get("higher_is_better", True))
