"""How reliable scores are, in sentences: the measured LDS, its ceiling, the warnings, and what limits them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from trak_cli.plugins.checkpoints.member import checkpoint_of, members_in_words
from trak_cli.plurals import counted
from trak_cli.report.plots import Interval
from trak_cli.results.scored import Scored
from trak_cli.store.failures import MissingError
from trak_cli.store.json_files import read_json
from trak_cli.store.safety.records import understanding
from trak_cli.types import Json


@dataclass(frozen=True)
class LdsPanel:
    """The last evaluation of a split.

    Attributes:
        entries: the mean LDS over targets of every set of scores, with its 95 % interval; those of this report are ``strong``.
        ceiling: the LDS of a perfect predictor; None if it is not known.
        about: subsets, targets and models, in words.
    """

    entries: Sequence[Interval]
    ceiling: float | None
    about: str


def read_lds(scored: Scored) -> LdsPanel | None:
    """The stored evaluation of the split; None if there is none.

    Raises:
        StoreError, MachineError: the file is damaged or cannot be read.
    """
    try:
        report = read_json(scored.layout.lds_report(scored.split))
    except MissingError:
        return None
    with understanding(scored.layout.lds_report(scored.split), "the report of trak eval-lds"):
        return _panel(scored, report)


def _panel(scored: Scored, report: Json) -> LdsPanel:
    entries = [_entry(one, scored.estimator) for one in report["scores"] if one["lds"]["estimate"] is not None]
    alike = "the same run, retrained with its own seed" if report["same_seed"] else "models retrained with other seeds"
    models = "" if report["models_per_subset"] is None else f", {report['models_per_subset']} of them for each"
    of = f"the mean over {counted(report['targets'], 'target')}" if report["group"] else counted(report["targets"], "target")
    about = f"{counted(report['subsets'], 'random subset')} of the training set, {of}; {alike}{models}"
    return LdsPanel(entries, report["noise_ceiling"], about)


def sentences(scored: Scored, lds: LdsPanel | None, checkpoints: Collection[str]) -> list[str]:
    """What a reader should know before acting on the scores."""
    said = [*_lds_sentences(scored, lds)]
    if not scored.dense:
        said.append(
            "Only the highest and lowest scores of each target are stored, so the distribution of all scores is not shown."
        )
    return [*said, *of_any_scores(checkpoints)]


def of_any_scores(checkpoints: Collection[str]) -> list[str]:
    """How many checkpoints the scores average, by their folders in the store, and what a score means."""
    said = []
    files = {checkpoint_of(name) for name in checkpoints}
    members = members_in_words(checkpoints)
    derived = f" and {members}" if members else ""
    if len(files) == 1:
        more = "Averaging over several trained checkpoints usually makes them more reliable."
        said.append(f"The scores come from one checkpoint{derived}. {more}")
    elif files:
        said.append(f"The scores average {counted(len(files), 'checkpoint')}{derived}.")
    said.append(
        "A positive score means that training on the sample raised the output on the target, a negative one that it lowered"
        " the output. The unit is arbitrary: compare scores of one target, not scores of different targets."
    )
    return said


def _lds_sentences(scored: Scored, lds: LdsPanel | None) -> list[str]:
    own = None if lds is None else next((entry for entry in lds.entries if entry.strong), None)
    if lds is None or own is None:
        whose = "these scores" if lds is None else f"the scores of estimator {scored.estimator}"
        return [
            f"It has not been measured how well {whose} predict retrained models."
            f" trak retrain and trak eval-lds lds.split={scored.split} measure it; before that, treat single scores with care."
        ]
    interval = "" if own.low is None or own.high is None else f" (95 % interval {own.low:.2f} to {own.high:.2f})"
    said = [f"The LDS of these scores is {own.estimate:.2f}{interval}: the rank correlation of predicted and actual outputs of"
            " retrained models, where 0 means no relation and 1 a perfect prediction."]  # fmt: skip
    if lds.ceiling is None:
        said.append(
            "Retrained models differ by chance, so a perfect predictor stays below 1, too. How far is not known: that takes"
            " two models per subset (retrain.models_per_subset=2)."
        )
    if lds.ceiling is not None and 0 < lds.ceiling < 1:
        said.append(
            f"A perfect predictor would reach about {lds.ceiling:.2f} here, because retrained models differ by chance;"
            f" these scores reach {own.estimate / lds.ceiling:.0%} of that."
        )
    if own.low is not None and own.low <= 0:
        said.append("The interval includes 0: on this evidence, the scores may be unrelated to what training does.")
    elif own.estimate < 0.2:
        said.append("This is low. Trust patterns over many targets rather than single pairs of samples.")
    return said


def _entry(one: dict[str, Any], estimator: str) -> Interval:
    lds = one["lds"]
    return Interval(one["name"], lds["estimate"], lds["low"], lds["high"], one["name"] == estimator)
