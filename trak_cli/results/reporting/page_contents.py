"""Everything of a report's page but its targets and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trak_cli.attribution.histogram import pooled
from trak_cli.plurals import counted
from trak_cli.report.page import LdsTable, Page, Suspects
from trak_cli.report.plots import lds_plot, spread_plot
from trak_cli.results.reporting.facts import config_text, facts_of
from trak_cli.results.reporting.part import Part, SplitTargets
from trak_cli.results.reporting.reliability import LdsPanel, sentences
from trak_cli.types import TRAIN


def page_of(parts: Sequence[Part], suspects: Suspects | None, notes: Sequence[str]) -> Page:
    """The page of these splits, before it is known which targets fit. ``notes``: why there are no suspects."""
    scored = parts[0].scored
    splits = ", ".join(part.scored.split for part in parts)
    return Page(
        title=f"{scored.layout.root.name}: {splits}",
        subtitle=f"Training samples behind the model outputs. Estimator {scored.estimator},"
        f" {counted(scored.rows, 'training sample')}.",
        train=TRAIN,
        notes=[],
        warnings=list(dict.fromkeys(warning for part in parts for warning in part.scored.warnings)),
        reliability={part.scored.split: sentences(part.scored, part.lds, part.checkpoints) for part in parts},
        facts={part.scored.split: facts_of(part.scored, part.checkpoints) for part in parts},
        config=config_text(scored.layout),
        spread=_spread(parts),
        suspects=suspects,
        no_suspects=list(notes),
        lds=[_table(part.scored.split, part.lds) for part in parts if part.lds is not None and part.lds.entries],
    )


def shown_targets(page: Page, splits: Sequence[SplitTargets], max_mb: float) -> Page:
    """The page with sentences about which targets it shows, and which not."""
    notes, lists = [], {}
    for one in splits:
        if not one.rows:
            notes.append(f"The scores are those of the mean output over a group of targets of split {one.split}.")
            continue
        what = "Every target" if one.shown == one.available else f"{one.shown:,} of {counted(one.available, 'target')}"
        notes.append(f"{what} of split {one.split}, each beside the training samples with the highest and lowest scores.")
        if one.did_not_fit:
            notes.append(f"{len(one.did_not_fit):,} more were chosen and do not fit into {max_mb:g} MB (--max-mb).")
        if one.shown < one.available:
            lists[one.split] = f"{ranges(one.rows)}. All other rows of the split are left out."
    return replace(page, notes=notes, row_list=lists)


def ranges(rows: Sequence[int]) -> str:
    """Ascending row numbers in words: "0 to 3, 7, 9"."""
    ends: list[list[int]] = []
    for row in rows:
        if ends and row == ends[-1][1] + 1:
            ends[-1][1] = row
        else:
            ends.append([row, row])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in ends)


def _spread(parts: Sequence[Part]) -> str | None:
    """The distribution of the scores of all chosen targets; None where only the ends are stored."""
    known = [part.ends.histograms for part in parts if part.ends.histograms is not None]
    counts = np.concatenate([one.counts for one in known]) if known else np.empty((0, 2), np.int64)
    if not counts.size:
        return None
    return spread_plot(*pooled(counts, [reach for one in known for reach in one.reaches]))


def _table(split: str, lds: LdsPanel) -> LdsTable:
    rows = [
        (one.name, f"{one.estimate:.3f}", "" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}")
        for one in lds.entries
    ]
    ceiling = [("noise ceiling", f"{lds.ceiling:.3f}", "")] if lds.ceiling is not None else []
    return LdsTable(split, lds_plot(lds.entries, lds.ceiling), [*rows, *ceiling], f"Measured on {lds.about}.")
