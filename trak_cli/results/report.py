"""``trak report``: one HTML page of targets and the training samples with the highest and lowest scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trak_cli.config.load import Loaded
from trak_cli.errors import ConfigError, Problem
from trak_cli.report.page import render, require_packages
from trak_cli.report.payload import Payload
from trak_cli.results.outputs.model_outputs import scored_checkpoints
from trak_cli.results.outputs.predictions import named_predictions, stored_names
from trak_cli.results.reporting.describing import Describer
from trak_cli.results.reporting.page_contents import page_of, shown_targets
from trak_cli.results.reporting.part import Part, SplitTargets, open_part
from trak_cli.results.reporting.suspicious import Suspicion, find_suspicious
from trak_cli.results.samples import Samples, open_samples
from trak_cli.store.atomic_write import replace
from trak_cli.types import TRAIN, Reporter

#: Bytes in a megabyte of ``--max-mb``.
_MB = 1_000_000

#: Bytes that are kept free for the sentences about the choice of targets, and for each row number in them.
_NOTES, _ROW_LISTED = 2_000, 14


@dataclass(frozen=True)
class ReportOptions:
    """What to show.

    Attributes:
        out: the file.
        splits: target splits; none: the configured or only one that has scores.
        targets: rows of the split; none: evenly spaced ones.
        most: the number of targets of each split at most, if ``targets`` names none.
        k: helpful and harmful samples of each target.
        suspects: suspicious training samples; 0: none, which saves two passes over the features.
        max_mb: size of the file at most, in megabytes.
    """

    out: Path
    splits: Sequence[str] = ()
    targets: Sequence[int] = ()
    most: int = 100
    k: int = 5
    suspects: int = 30
    max_mb: float = 20.0


@dataclass(frozen=True)
class ReportSummary:
    """The written page: its path, its size in bytes, and what is on it."""

    path: Path
    bytes: int
    store: Path
    estimator: str
    targets: list[SplitTargets]
    samples: int
    warnings: list[str]


def report(loaded: Loaded, reporter: Reporter, *, options: ReportOptions) -> ReportSummary:
    """Write the page.

    Raises:
        ConfigError: no such split or target, fewer than k scores were kept, not one target fits into the file, or a package of
            the extra ``report`` is missing.
        StoreError: there are no scores, or a file is damaged.
        InputError: a data set cannot describe a row.
        MachineError: the file cannot be written.
    """
    require_packages()
    parts = [open_part(loaded, split, options.targets, options.most, options.k) for split in options.splits or (None,)]
    samples = {split: open_samples(loaded.config, split) for split in (TRAIN, *(part.scored.split for part in parts))}
    suspicion = Suspicion()
    if options.suspects:
        suspicion = find_suspicious(loaded, reporter, parts[0].scored.split, options.suspects, samples[TRAIN])
    payload = Payload(_describer(samples, parts, suspicion), TRAIN)
    table = suspicion.table(payload.add_samples([one.row for one in suspicion.suspects]))
    page = page_of(parts, table, suspicion.notes)
    empty = len(render(page, "").encode()) + payload.size
    free = int(options.max_mb * _MB) - empty - _NOTES - sum(_ROW_LISTED * len(part.choice.rows) for part in parts)
    found: list[SplitTargets] = []
    with reporter.meter("report", sum(len(part.choice.rows) for part in parts), "targets") as meter:
        for part in parts:
            payload.budget = share = free // (len(parts) - len(found))  # what a split leaves goes to the next ones
            found.append(_add(part, payload, meter.advance))
            free -= share - payload.budget
    if not payload.targets:
        expected = f"room for one target beside the {empty / _MB:.2f} MB of the page itself"
        raise ConfigError(Problem("--max-mb", f"{options.max_mb:g}", expected, "give a larger one, or a smaller -k"))
    html = render(shown_targets(page, found, options.max_mb), payload.json()).encode()
    replace(options.out, html)
    scored = parts[0].scored
    return ReportSummary(
        options.out, len(html), scored.layout.root, scored.estimator, found, payload.samples, list(page.warnings)
    )


def _describer(samples: Mapping[str, Samples | None], parts: Sequence[Part], suspicion: Suspicion) -> Describer:
    """Describes rows with what the store says about those that may be on the page."""
    outputs = {part.scored.split: part.outputs(part.scored.split, part.rows) for part in parts}
    training = {row for part in parts for row in part.training_rows} | {one.row for one in suspicion.suspects}
    outputs[TRAIN] = parts[0].outputs(TRAIN, sorted(training))
    names = stored_names(parts[0].scored.layout, scored_checkpoints(parts[0].scored), TRAIN, samples[TRAIN]).names
    predicted = {split: named_predictions(one, samples[split], names) for split, one in outputs.items()}
    return Describer(samples, outputs, suspicion.self_influence, predicted)


def _add(part: Part, payload: Payload, advance: Callable[[], None]) -> SplitTargets:
    """Add the targets of a split in their order, up to the first one that does not fit."""
    shown = 0
    while shown < len(part.choice.rows) and payload.add(part.target(shown)):
        shown += 1
        advance()
    fit, others = (
        sorted(row for row in some if row is not None) for some in (part.choice.rows[:shown], part.choice.rows[shown:])
    )
    return SplitTargets(part.scored.split, shown, part.choice.available, fit, others)
