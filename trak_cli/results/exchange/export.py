"""``trak export``: scores or features in the files of other programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trak_cli.attribution.topk import TopBottom
from trak_cli.config.load import Loaded
from trak_cli.errors import ConfigError, Problem
from trak_cli.results.exchange.contract import GROUP, ArrayStream, LongRows, ScoreBlocks, ScoreStream
from trak_cli.results.exchange.feature_arrays import feature_arrays
from trak_cli.results.exchange.registry import FORMATS, Format, chosen_format
from trak_cli.results.exchange.staging import require_free, staged
from trak_cli.results.scored import Scored, open_scored
from trak_cli.types import AnyArray, Json, Reporter

#: Written into formats that can hold a remark.
SIGN = "score > 0: training on the row raises f of the target"

_TARGETS_AT_ONCE = 256


@dataclass(frozen=True)
class Export:
    """What is exported.

    Attributes:
        out: the file or folder that is written.
        format: its name; None: by the suffix of ``out``.
        split: of the targets; with ``features``, of the samples.
        k: only the k highest and the k lowest scores of each target; None: every score.
        features: features instead of scores.
        checkpoint: whose features; None: of the only one.
        overwrite: replace ``out``.
    """

    out: Path
    format: str | None = None
    split: str | None = None
    k: int | None = None
    features: bool = False
    checkpoint: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class ExportSummary:
    """What was written.

    Attributes:
        shape: (targets, training rows) of scores, (rows, k) of features.
        k: how many highest and lowest scores of each target; None for all of them.
        bytes: size of the output.
    """

    store: Path
    out: Path
    format: str
    what: str
    split: str
    shape: tuple[int, int]
    k: int | None
    bytes: int


def export(loaded: Loaded, reporter: Reporter, *, to: Export) -> ExportSummary:
    """Write scores (or features) of the store in another format, block by block.

    Raises:
        ConfigError: ``out`` exists, the format cannot hold what is asked for, or there is no such split or checkpoint.
        StoreError: there are no scores or features, or a file is damaged.
        MachineError: ``out`` cannot be written.
    """
    name, format = chosen_format(to.out, to.format, to_write=True)
    _require_possible(name, format, to)
    module = format.load()
    require_free(to.out, to.overwrite, getattr(module, "is_ours", lambda _: False))
    if to.features:
        arrays = feature_arrays(loaded.config, to.split, to.checkpoint)
        with staged(to.out, to.overwrite) as path:
            module.write_arrays(path, _metered(arrays, reporter))
        split = str(arrays.about["split"])
        shape = arrays.arrays["features"][0]
        return _summary(loaded, to, name, "features", split, (shape[0], shape[1]))
    scored = open_scored(loaded, to.split)
    stream = _stream(scored, reporter)
    if to.k is None:
        scored.require_dense()
        with staged(to.out, to.overwrite) as path:
            module.write(path, stream)
    else:
        scored.extremes([0], to.k)  # refuses a k that was not kept, before a file is opened
        with staged(to.out, to.overwrite) as path:
            module.write_rows(path, _extreme_rows(scored, stream, to.k))
    return _summary(loaded, to, name, f"scores of {scored.estimator}", scored.split, stream.shape)


def _require_possible(name: str, format: Format, to: Export) -> None:
    problems = []
    if to.k is not None and to.features:
        problems.append(Problem("-k", "-k with --features", "one of the two", "leave out -k"))
    elif to.k is not None and not format.extremes:
        known = ", ".join(one for one, other in FORMATS.items() if other.extremes)
        found = f"{name}, which has a place for every score"
        problems.append(Problem("--format", found, f"for the highest and lowest scores one of: {known}", "leave out -k"))
    if to.features and not format.features:
        known = ", ".join(one for one, other in FORMATS.items() if other.features)
        problems.append(Problem("--format", name, f"for features one of: {known}", "choose one of these with --format"))
    if to.checkpoint is not None and not to.features:
        problems.append(Problem("--checkpoint", to.checkpoint, "a checkpoint with --features", "add --features"))
    ConfigError.raise_for(problems)


def _stream(scored: Scored, reporter: Reporter) -> ScoreStream:
    targets = [GROUP] if scored.group else list(scored.target_rows)
    shape = (len(targets), scored.rows)

    def blocks() -> ScoreBlocks:
        with reporter.meter(f"export {scored.estimator}", shape[0] * shape[1], "scores") as meter:
            for places, rows, block in scored.pieces():
                yield places, rows, block
                meter.advance(block.size)

    about: Json = {"estimator": scored.estimator, "split": scored.split, "sign": SIGN}
    if scored.group:
        about["group"] = scored.group
    return ScoreStream(shape, targets, about, blocks)


def _extreme_rows(scored: Scored, stream: ScoreStream, k: int) -> Iterator[LongRows]:
    """The highest scores of each target, best first, then the lowest that are not among them, the lowest last."""
    for start in range(0, stream.shape[0], _TARGETS_AT_ONCE):
        places = range(start, min(start + _TARGETS_AT_ONCE, stream.shape[0]))
        for place, ends in zip(places, scored.extremes(places, k), strict=True):
            rows, scores = _without_repetition(ends)
            yield LongRows(np.full(len(rows), stream.targets[place]), rows, scores)


def _without_repetition(ends: TopBottom) -> tuple[AnyArray, AnyArray]:
    top, bottom = ends.top, ends.bottom
    new = ~np.isin(bottom.indices[0], top.indices[0])
    rows = np.concatenate([top.indices[0], bottom.indices[0][new][::-1]])
    return rows, np.concatenate([top.values[0], bottom.values[0][new][::-1]])


def _metered(arrays: ArrayStream, reporter: Reporter) -> ArrayStream:
    def parts() -> Iterator[tuple[str, tuple[slice, ...], AnyArray]]:
        rows = arrays.arrays["features"][0][0]
        with reporter.meter("export features", rows, "samples") as meter:
            for name, place, values in arrays.parts():
                yield name, place, values
                if name == "features":
                    meter.advance(len(values))

    return ArrayStream(arrays.arrays, arrays.about, parts)


def _summary(loaded: Loaded, to: Export, name: str, what: str, split: str, shape: tuple[int, int]) -> ExportSummary:
    files = [to.out] if to.out.is_file() else [file for file in to.out.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return ExportSummary(Path(loaded.config.store), to.out, name, what, split, shape, to.k, size)
