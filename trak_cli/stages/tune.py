"""``trak tune``: find the estimator that predicts retrained models best, given a ground truth.

The search uses half of the targets and half of the subsets. The best estimator and the configured one are then compared on the
other halves of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trak_cli.attribution.estimator.describe import describe_formula
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.lds.bootstrap import Bootstrap, Interval, PValue, compare
from trak_cli.attribution.lds.lds import lds_of_predictions
from trak_cli.attribution.search import grid_members, halves
from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plurals import counted
from trak_cli.stages.evaluation.estimator_search import SubsetQuery, passes, scan
from trak_cli.stages.evaluation.ground_truth import GroundTruth, evaluated_split, read_ground_truth
from trak_cli.stages.evaluation.target_choice import choose_targets
from trak_cli.stages.evaluation.tuned_estimator import check_file, estimator_file, overrides_of, write_estimator
from trak_cli.stages.index.inventory import Inventory, require_shards, take_inventory
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.inputs.device import use_threads
from trak_cli.store.json_files import replace_json
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Float64, IntArray, Reporter, plain

#: Number of estimators in the summary; the report has all.
SHOWN = 5

#: Fields that change finished scores. They are tried on the best estimator only, because a search without scores is faster.
DENOISING = ("shrinkage", "soft_threshold")

#: Fewest subsets in each half.
_LEAST = 3


@dataclass(frozen=True)
class Member:
    """An estimator and its LDS on the searched half."""

    estimator: EstimatorSpec
    formula: str
    searched: float


@dataclass(frozen=True)
class HeldOut:
    """Results on the halves that the search did not use.

    Attributes:
        chosen: LDS of the chosen estimator, with its 95 % interval (NaN without resamples).
        reference: LDS of the configured estimator.
        difference: chosen minus reference, on the same resamples.
        p_value: two-sided, of the difference.
        method: how subsets and targets were resampled (see :mod:`trak_cli.attribution.lds.bootstrap`).
    """

    chosen: Interval
    reference: Interval
    difference: Interval
    p_value: PValue
    method: str


@dataclass(frozen=True)
class TuneSummary:
    """The search and its result.

    Attributes:
        targets, subsets: numbers that the search and the evaluation used: (searched, held out).
        members: number of estimators that were tried.
        best: the chosen estimator, then the best others.
        reference: the configured estimator.
        overrides: the chosen estimator as command-line overrides.
        files: the report, and the estimator file if a folder was given.
    """

    store: Path
    split: str
    ground_truth: Path
    checkpoints: list[str]
    targets: tuple[int, int]
    subsets: tuple[int, int]
    members: int
    best: list[Member]
    reference: Member
    held_out: HeldOut
    overrides: list[str]
    files: list[Path]


@dataclass(frozen=True)
class _Half:
    """Some targets and some subsets of a ground truth."""

    truth: GroundTruth
    split: str
    targets: IntArray
    subsets: IntArray

    @property
    def query(self) -> SubsetQuery:
        """What the estimators predict."""
        return SubsetQuery(self.split, self.targets, self.truth.weights[self.subsets])

    @property
    def outputs(self) -> Float64:
        """(s, t) float64 outputs of the retrained models."""
        return self.truth.outputs[np.ix_(self.subsets, self.targets)].astype(np.float64)


def tune(loaded: Loaded, reporter: Reporter) -> TuneSummary:
    """Search the grid, compare the best estimator with the configured one, and write a report.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes; features and scores in the store are unchanged.
    """
    config = loaded.config
    use_threads(config.threads)
    reference = config.estimator.spec
    layout = Layout(Path(config.store))
    inventory = take_inventory(layout, config.estimator.average_over)
    split = evaluated_split(config, layout)
    targets = rows_of(layout, split)
    truth = read_ground_truth(config, layout, split, inventory.rows, targets)
    reporter.log(
        f"{counted(len(truth.weights), 'subset')} of {counted(inventory.rows, 'row')},"
        f" {counted(targets, 'target')}, from {truth.source}{truth.note}"
    )
    searched, held_out = _halves(config, truth, split, choose_targets(config.lds, split, targets, []).rows)
    file = check_file(estimator_file(config.tune.folder, config.tune.name))
    require_shards(inventory, [TRAIN, split])
    specs = _members(config, reference, len(inventory.checkpoints))
    reporter.log(
        f"{counted(len(specs), 'estimator')}: {counted(passes(specs), 'pass', 'passes')} over"
        f" {counted(inventory.rows, 'row')} of each of {counted(len(inventory.checkpoints), 'checkpoint')};"
        " fewer values in tune.grid or fewer checkpoints (estimator.average_over) take less time"
    )
    values = _search(inventory, specs, searched, reporter)
    denoised = _denoised(config, reference, max(specs, key=values.__getitem__), values)
    if denoised:
        values |= _search(inventory, denoised, searched, reporter)
    ranked = sorted(values, key=lambda spec: -values[spec])
    # The configured estimator is kept unless another one is better.
    chosen = reference if values[ranked[0]] == values[reference] else ranked[0]
    evaluation = _evaluate(config, inventory, (chosen, reference), held_out, reporter)
    summary = TuneSummary(
        store=layout.root,
        split=split,
        ground_truth=truth.source,
        checkpoints=inventory.checkpoints,
        targets=(len(searched.targets), len(held_out.targets)),
        subsets=(len(searched.subsets), len(held_out.subsets)),
        members=len(values),
        best=[_member(spec, values) for spec in [chosen, *(spec for spec in ranked if spec != chosen)][:SHOWN]],
        reference=_member(reference, values),
        held_out=evaluation,
        overrides=overrides_of(replace(chosen, name=config.tune.name)),
        files=[layout.tune_report(split), *([] if file is None else [file])],
    )
    if file is not None:
        write_estimator(file, replace(chosen, name=config.tune.name), evaluation.chosen.estimate)
    everything = [plain(_member(spec, values)) for spec in ranked]
    replace_json(
        layout.tune_report(split),
        plain(summary) | {"searched": everything, "bootstrap": config.lds.bootstrap, "seed": config.seed},
    )
    return summary


def _halves(config: TrakConfig, truth: GroundTruth, split: str, rows: Sequence[int]) -> tuple[_Half, _Half]:
    """Both halves of the subsets, and of these rows of the split."""
    if config.lds.group:
        expected = "false: half of the targets are searched, the other half is held out"
        raise ConfigError(Problem("lds.group", "true", expected, "give lds.group=false, and lds.targets to choose targets"))
    subsets, targets = len(truth.outputs), len(rows)
    if subsets < 2 * _LEAST or targets < 2:
        expected = (
            f"{counted(2 * _LEAST, 'subset')} and 2 targets or more: half of them are searched, the other half is held out"
        )
        remedy = "retrain on more subsets (retrain.subsets)"
        raise InputError(
            Problem(str(truth.source), f"{counted(subsets, 'subset')} and {counted(targets, 'target')}", expected, remedy)
        )
    seed = config.seed
    chosen = [np.array(rows)[half] for half in halves(targets, seed, config.tune.targets)]
    pairs = zip(chosen, halves(subsets, seed + 1), strict=True)
    first, second = [_Half(truth, split, *pair) for pair in pairs]
    return first, second


def _members(config: TrakConfig, reference: EstimatorSpec, checkpoints: int) -> list[EstimatorSpec]:
    """The configured estimator and every combination of the grid, without the fields of :data:`DENOISING`."""
    grid = {name: values for name, values in config.tune.grid.items() if name not in DENOISING}
    if checkpoints == 1 and "averaging" in grid:
        grid["averaging"] = grid["averaging"][:1]
    base = replace(reference, shrinkage=0.0, soft_threshold=0.0)
    return [reference, *(spec for spec in grid_members(base, grid) if spec != reference)]


def _denoised(
    config: TrakConfig, reference: EstimatorSpec, best: EstimatorSpec, known: Mapping[EstimatorSpec, float]
) -> list[EstimatorSpec]:
    """The best estimator with every combination of the fields of :data:`DENOISING`."""
    grid = {name: config.tune.grid.get(name, [getattr(reference, name)]) for name in DENOISING}
    return [spec for spec in grid_members(best, grid) if spec not in known]


def _search(
    inventory: Inventory, specs: Sequence[EstimatorSpec], half: _Half, reporter: Reporter
) -> dict[EstimatorSpec, float]:
    """LDS of every estimator; −1 if it is undefined on every target."""
    total = passes(specs) * inventory.rows * len(inventory.checkpoints)
    values = {}
    with reporter.meter(f"tune, {counted(len(specs), 'estimator')}", total, "rows") as meter:
        for spec, predictions in scan(inventory, specs, half.query, meter.advance):
            mean = lds_of_predictions(predictions, half.outputs).mean
            values[spec] = -1.0 if np.isnan(mean) else mean
    return values


def _evaluate(
    config: TrakConfig, inventory: Inventory, pair: tuple[EstimatorSpec, EstimatorSpec], half: _Half, reporter: Reporter
) -> HeldOut:
    """The chosen estimator and the configured one on the held-out half."""
    specs = list(dict.fromkeys(pair))
    total = passes(specs) * inventory.rows * len(inventory.checkpoints)
    with reporter.meter("tune, held-out half", total, "rows") as meter:
        predictions = dict(scan(inventory, specs, half.query, meter.advance))
    both = dict(zip(("chosen", "reference"), (predictions[spec] for spec in pair), strict=True))
    comparison = compare(both, half.outputs, Bootstrap(config.lds.bootstrap, config.seed))
    (change,) = comparison.differences
    sets = comparison.sets
    return HeldOut(sets["chosen"], sets["reference"], change.interval, change.p_value, comparison.method)


def _member(spec: EstimatorSpec, values: dict[EstimatorSpec, float]) -> Member:
    return Member(spec, describe_formula(spec), values[spec])
