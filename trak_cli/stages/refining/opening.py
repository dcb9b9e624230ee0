"""The inputs of `trak refine`, checked against the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.cluster.share import Share
from trak_cli.config.load import Loaded
from trak_cli.errors import ConfigError, Problem, StoreError
from trak_cli.plugins.checkpoints.member import is_blended
from trak_cli.plurals import counted
from trak_cli.stages.featurizing.fingerprint import features_fingerprint
from trak_cli.stages.featurizing.new_targets import with_checkpoints
from trak_cli.stages.featurizing.setup import FeatureSetup, make_setup
from trak_cli.stages.featurizing.statistics_cache import StatisticsCache
from trak_cli.stages.featurizing.task_context import bind_context
from trak_cli.stages.featurizing.units import list_work
from trak_cli.stages.index.fingerprints import check_fingerprints
from trak_cli.stages.index.inventory import Inventory, require_shards, take_inventory
from trak_cli.stages.index.split_sizes import first_rows
from trak_cli.stages.inputs.microbatches import largest
from trak_cli.stages.inputs.run_inputs import RunInputs, open_inputs
from trak_cli.stages.inputs.split import Split
from trak_cli.stages.refining.scores import RefinedUnit
from trak_cli.stages.refining.settings import Settings, make_settings
from trak_cli.stages.scoring.gram_store import require_grams
from trak_cli.stages.scoring.score_reader import read_extremes, stored_scores
from trak_cli.stages.scoring.score_store import ScoreFiles
from trak_cli.store.chosen_targets import ChosenTargets, positions
from trak_cli.store.fingerprint import digest
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Json, Reporter, listed
from trak_cli.user_errors import report_user_errors


@dataclass(frozen=True)
class RefineRun:
    """A run whose inputs are checked.

    Attributes:
        units: blocks of systems under every checkpoint, in an order on which all workers agree.
        candidates: for every system, the training rows that are scored; None for all.
    """

    inputs: RunInputs
    setup: FeatureSetup
    cache: StatisticsCache
    inventory: Inventory
    estimator: EstimatorSpec
    settings: Settings
    files: ScoreFiles
    units: list[RefinedUnit]
    candidates: list[list[int]] | None

    @property
    def targets(self) -> Split:
        """The target split."""
        return next(split for split in self.inputs.splits if split.name == self.settings.split)


def open_run(loaded: Loaded, reporter: Reporter) -> RefineRun:
    """Read and check everything that the run needs.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    config, layout = loaded.config, Layout(Path(loaded.config.store))
    inventory = _with_own_outputs(take_inventory(layout, config.estimator.average_over), reporter)
    inputs = with_checkpoints(open_inputs(config, loaded.base, first_rows(layout, TRAIN)), inventory)
    with report_user_errors("model", library=True):
        setup = make_setup(config, inputs)
    _require_gradients(setup)
    fingerprints = {checkpoint.name: features_fingerprint(config, setup, checkpoint) for checkpoint in inputs.checkpoints}
    check_fingerprints(layout, fingerprints)
    cache = StatisticsCache(layout, inputs.train, fingerprints)
    sample = largest(inputs.train, 1)
    with report_user_errors("model", library=True):
        bind_context(cache, inputs.components, inputs.checkpoints[0], store=True)
        settings = make_settings(config.refine, config.estimator.spec, inventory, setup, inputs.train.batch(sample.samples))
    require_shards(inventory, [TRAIN, settings.split])
    if config.estimator.spec.needs_gram:
        require_grams(inventory, config.estimator.spec)
    _require_features(list_work(layout, inputs, fingerprints, inventory.plan.shard_rows, Share(), reporter).pending)
    fingerprint, candidates = settings.fingerprint(inventory, config.estimator.spec), None
    if config.refine.candidates is not None:
        candidates, source = _candidates(layout, config.estimator.name, settings)
        fingerprint |= {"candidates_of": digest(source)}
    files = ScoreFiles(
        layout=layout,
        estimator=settings.name,
        split=settings.split,
        top_k=config.refine.candidates,
        blocks=settings.blocks,
        shards=inventory.shards(TRAIN),
        fingerprint=fingerprint,
        overwrite=config.refine.overwrite,
        keys=("refine.name", "refine.overwrite"),
    )
    units = [
        RefinedUnit(
            checkpoint.name,
            number,
            systems,
            layout.refined(settings.name, settings.split, checkpoint.name, number),
            {**fingerprint, "kind": "refined", "checkpoint": checkpoint.name},
        )
        for checkpoint in inputs.checkpoints
        for number, systems in enumerate(settings.blocks)
    ]
    return RefineRun(inputs, setup, cache, inventory, config.estimator.spec, settings, files, units, candidates)


def _with_own_outputs(inventory: Inventory, reporter: Reporter) -> Inventory:
    """Without blended members, under whose half random weights the curvature would not be that of a trained model.

    Raises:
        ConfigError: there are no other checkpoints.
    """
    own = {name: features for name, features in inventory.features.items() if not is_blended(name)}
    if not own:
        found = f"{listed(inventory.checkpoints)}, with weights that are blended with fresh ones"
        expected = "checkpoints whose own outputs are those of a trained model"
        remedy = "give 'estimator.average_over=[*-????????]', the checkpoints without their members"
        raise ConfigError(Problem("estimator.average_over", found, expected, remedy))
    if blended := len(inventory.features) - len(own):
        reporter.log(
            f"left out: {counted(blended, 'member')} blended with fresh weights, whose outputs are not a trained model's"
        )
    return replace(inventory, features=own)


def _require_gradients(setup: FeatureSetup) -> None:
    """Raise ConfigError if features are no gradients, or if a parameter is complex."""
    if not setup.uses_gradients:
        expected = "features that are gradients: a representation has no parameters"
        raise ConfigError(Problem("gradients.engine", "representation", expected, "use a store with gradients=auto"))
    if names := [name for name, value in setup.selected.items() if value.is_complex()]:
        remedy = f"leave them out: parameters.exclude=[{','.join(names)}]"
        raise ConfigError(Problem("parameters", f"{listed(names)}, which are complex", "real parameters", remedy))


def _require_features(pending: Sequence[object]) -> None:
    if pending:
        found = f"{counted(len(pending), 'shard')} of features that are missing or end before the data set does"
        raise StoreError(Problem("features", found, "features of every sample", "run trak featurize first"))


def _candidates(layout: Layout, estimator: str, settings: Settings) -> tuple[list[list[int]], Json]:
    """For every target, the training rows with its highest and lowest scores; and the fingerprint of these scores."""
    path, fingerprint = stored_scores(layout, estimator, settings.split)
    try:
        rows = positions(ChosenTargets.of(fingerprint), settings.targets)
    except ValueError as error:
        remedy = f"run trak score with this estimator first, or choose other targets with refine.targets ({error})"
        raise StoreError(Problem(str(path), "scores of other targets", "scores of all targets to refine", remedy)) from error
    ends = read_extremes(layout, estimator, settings.split, rows, settings.refine.candidates or 1)
    return [sorted({*end.top.indices[0].tolist(), *end.bottom.indices[0].tolist()}) for end in ends], fingerprint
