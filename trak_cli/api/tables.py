"""Summaries of commands as tables of pandas (extra ``tables``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trak_cli.plugins.optional import needed
from trak_cli.results.samples import Samples

if TYPE_CHECKING:
    import pandas

    from trak_cli.report.payload import Prediction
    from trak_cli.results.evaluate import EvaluateSummary
    from trak_cli.results.suspects import SuspectsSummary
    from trak_cli.results.top import TopSummary

_FIRST = ("rank", "target", "row", "score", "label", "proposed", "predicted", "predicted_probability")


def top_table(summary: TopSummary, samples: Samples | None) -> pandas.DataFrame:
    """A row for each training sample of each target, the most helpful first.

    Args:
        samples: the training set; None if it is not at hand.
    """
    rows = [
        _with_sample({"target": found.row, "row": one.row, "score": one.score, **_predicted(one.predicted)}, samples)
        for found in summary.targets
        for one in [*found.helpful, *reversed(found.harmful)]
    ]
    about = {"estimator": summary.estimator, "split": summary.split, "warnings": summary.warnings}
    return _table(rows, about, "top")


def suspects_table(summary: SuspectsSummary, samples: Samples | None) -> pandas.DataFrame:
    """A row for each suspect, with a column for each criterion.

    Args:
        samples: the training set; None if it is not at hand.
    """
    hidden = ("values", "predicted", "description")
    found = [
        {name: value for name, value in (vars(one) | one.values).items() if name not in hidden} | _predicted(one.predicted)
        for one in summary.suspects
    ]
    rows = [_with_sample(one, samples) for one in found]
    frame = _table(rows, {"by": summary.by, "split": summary.split, "notes": summary.notes}, "suspects")
    for name in {"label", "predicted", "proposed", "harm_count"} & set(frame):  # whole numbers, although some are missing
        frame[name] = frame[name].convert_dtypes()
    return frame


def metrics_table(summary: EvaluateSummary) -> pandas.DataFrame:
    """A row for each metric, with its interval."""
    rows = [
        {"metric": one.name, "value": one.value.estimate, "low": one.value.low, "high": one.value.high}
        | {"count": one.count, "of": one.of, "perfect": one.perfect}
        for one in summary.metrics
    ]
    single = {one.name: one.per_target for one in summary.metrics if one.per_target}
    return _table(rows, {"estimator": summary.estimator, "split": summary.split, "per_target": single}, "evaluate")


def _table(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any], where: str) -> pandas.DataFrame:
    named = dict.fromkeys(name for row in rows for name in row)
    columns = [*(name for name in _FIRST if name in named), *(name for name in named if name not in _FIRST)]
    frame: pandas.DataFrame = needed("pandas", "tables", where).DataFrame(rows, columns=columns)
    frame.attrs = dict(about)
    return frame


def _predicted(predicted: Prediction | None) -> dict[str, Any]:
    """The class that the model predicts and its probability; empty where they are not known."""
    return {} if predicted is None else {"predicted": predicted.label, "predicted_probability": predicted.probability}


def _with_sample(found: dict[str, Any], samples: Samples | None) -> dict[str, Any]:
    """What was found about a training sample, its label, and what its data set describes, under names that are not taken."""
    if samples is None:
        return found
    row = found["row"]
    described = {name: dict(value) if isinstance(value, Mapping) else value for name, value in samples.description(row).items()}
    named = {f"data_{name}" if name in found and name != "label" else name: value for name, value in described.items()}
    return {**found, "label": samples.label(row), **named}
