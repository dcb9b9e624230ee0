"""``trak retrain``: the ground truth of the LDS. Trains models on random subsets and stores their outputs on the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from trak_cli.cluster.share import Share
from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.notes import CAN_BE_BLENDED
from trak_cli.plugins.checkpoints.state import dump
from trak_cli.stages.evaluation.evaluated_targets import EvaluatedTargets
from trak_cli.stages.evaluation.flips import FlipSearch, open_search
from trak_cli.stages.evaluation.ground_truth import evaluated_split
from trak_cli.stages.evaluation.removals import Removal, removals, require_top
from trak_cli.stages.evaluation.score_source import ScoreSource
from trak_cli.stages.evaluation.sources import ScoredSplit
from trak_cli.stages.evaluation.target_choice import choose_targets
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.inputs.device import refuse_device_map, set_up_device
from trak_cli.stages.inputs.sample_identity import Array, changed_samples, sample_arrays
from trak_cli.stages.inputs.worker import worker_share
from trak_cli.stages.training.checkpoint_files import checkpoint_path
from trak_cli.stages.training.retrained_units import Unit, retrained_fingerprint, run_seeds, subset_size, subset_units
from trak_cli.stages.training.trainer_run import Training
from trak_cli.stop_signals import unit_of_work
from trak_cli.store.container import read_image
from trak_cli.store.fingerprint import require_same
from trak_cli.store.layout import Layout
from trak_cli.store.publish import write_image
from trak_cli.store.temp_files import sweep
from trak_cli.types import TRAIN, Float32, Json, Meter, Reporter, Silent


@dataclass(frozen=True)
class RetrainSummary:
    """The result of a call of retrain.

    Attributes:
        rows: of the training set.
        subset_rows: size of every subset.
        removals: models without the highest scores of a target or a group, over all estimators.
        same_seed: whether a run of `trak train` was retrained.
        trained: files that this call wrote, each with the models of one subset or removal.
        searched: targets whose smallest flipping removal is known, over all estimators (``retrain.flip_top``).
        left_to_others: files of other workers.
    """

    folder: Path
    rows: int
    subsets: int
    subset_rows: int
    models_per_subset: int
    removals: int
    same_seed: bool
    trained: int
    searched: int
    left_to_others: int


def retrain(loaded: Loaded, reporter: Reporter) -> RetrainSummary:
    """Train on every subset of this worker's share that is not stored yet, and store masks and outputs.

    With ``retrain.same_seed``, a run of `trak train` is trained again: with all samples, without those that the subsets leave
    out, and without the highest scores that ``retrain.remove_top`` names. Weights and losses on the targets are stored too.

    Workers that cannot distinguish their shares take the subsets in different orders, so each subset is looked up again just
    before it is trained. ``train.start`` and ``train.only_parameters`` apply as in `trak train`: the ground truth is the same
    training on less data.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    config = loaded.config
    refuse_device_map(config, "retrain")
    device, _ = set_up_device(config.device, config.threads)
    training = Training(config, device)
    layout = Layout(Path(config.store))
    folder = layout.retrained_folder(config.retrain.own_run)
    share = worker_share(config.worker, reporter)
    models = _Models(config, training, device, reporter)
    for subset in layout.retrained_subsets(config.retrain.own_run)[:1]:  # another worker may have trained on other data
        models.require_own(layout.retrained(subset, config.retrain.own_run))
    without = _without_top(config, layout, training, reporter)
    units = [*subset_units(config, layout, training.rows), *without]
    own = share.of(units)
    pending = [unit for unit in own if not models.stored(unit)]
    trained = 0
    with reporter.meter("retrain", len(pending) * config.retrain.models_per_subset, "models") as meter:
        for unit in pending:
            if not models.stored(unit):
                with unit_of_work():
                    models.train(unit, meter)
                trained += 1
    searched, files = models.search_flips(_searches(config, layout, training, reporter), share)
    sweep(folder)
    return RetrainSummary(
        folder,
        training.rows,
        config.retrain.subsets,
        subset_size(training.rows, config.retrain.kept),
        config.retrain.models_per_subset,
        len(without),
        config.retrain.same_seed,
        trained + files,
        searched,
        len(units) - len(own),
    )


def _open_scores(
    config: TrakConfig, layout: Layout, training: Training, names: list[str], reporter: Reporter
) -> tuple[str, list[ScoreSource], EvaluatedTargets]:
    """The evaluated split, the scores of these names on it, and the chosen targets."""
    split = evaluated_split(config, layout)
    if split not in training.splits:
        known = ", ".join(name for name in training.splits if name != TRAIN)
        raise InputError(Problem("lds.split", split, f"a split of dataset.targets: {known}", "give lds.split=NAME"))
    total = len(training.splits[split])
    names = list(dict.fromkeys(names))
    files = {name: config.lds.scores[name] for name in names if name in config.lds.scores}
    scored = ScoredSplit(layout, split, total, training.rows)
    sources = scored.open([name for name in names if name not in files], files, reporter)
    return split, sources, choose_targets(config.lds, split, total, sources)


def _without_top(config: TrakConfig, layout: Layout, training: Training, reporter: Reporter) -> list[Unit]:
    """The models that ``retrain.remove_top`` asks for."""
    run = config.retrain.own_run
    if run is None or not config.retrain.remove_top:
        return []
    split, sources, targets = _open_scores(config, layout, training, config.retrain.remove_top, reporter)
    count = training.rows - subset_size(training.rows, config.retrain.kept)
    names = ", ".join(source.name for source in sources)
    reporter.log(f"{names}: {targets} of {split}, each without the {count} highest scores")
    return [_unit(config, one) for source in sources for one in removals(layout, run, split, source, targets, count)]


def _unit(config: TrakConfig, removal: Removal) -> Unit:
    return Unit(removal.path, run_seeds(config), partial(np.asarray, removal.left_out), removal.entry)


def _searches(config: TrakConfig, layout: Layout, training: Training, reporter: Reporter) -> list[FlipSearch]:
    """What ``retrain.flip_top`` asks for."""
    if config.retrain.own_run is None or not config.retrain.flip_top:
        return []
    split, sources, targets = _open_scores(config, layout, training, config.retrain.flip_top, reporter)
    return [open_search(config, layout, split, source, targets) for source in sources]


class _Models:
    """Trains the models of units, and knows which units are stored."""

    def __init__(self, config: TrakConfig, training: Training, device: torch.device, reporter: Reporter) -> None:
        self._config = config
        self._training = training
        self._device = device
        self._reporter = reporter
        self._samples = sample_arrays(training.splits)
        self._fingerprint = retrained_fingerprint(config, training)

    def require_own(self, path: Path, entry: Json | None = None) -> dict[str, Array]:
        """The arrays of a file, which must be of this run.

        Raises:
            StoreError: the file is damaged, or belongs to another run.
            InputError: it was computed from other samples.
        """
        image = read_image(path)
        require_same(path, image.fingerprint, self._fingerprint | (entry or {}))
        if changed := changed_samples(image.arrays, self._samples, f"{path} was made"):
            raise InputError(changed)
        return image.arrays

    def stored(self, unit: Unit) -> bool:
        """Whether the models of a unit are stored.

        Raises:
            StoreError, InputError: as :meth:`require_own`; or other samples were left out.
        """
        if not unit.path.exists():
            return False
        arrays = self.require_own(unit.path, unit.entry)
        if unit.entry:
            require_top(unit.path, arrays["weights"], unit.left_out())
        return True

    def train(self, unit: Unit, meter: Meter) -> None:
        """Train the models of a unit, and store their outputs."""
        training, targets = self._training, [name for name in self._training.splits if name != TRAIN]
        inside = np.ones(training.rows, np.bool_)
        inside[unit.left_out()] = False
        same_seed = self._config.retrain.same_seed
        rows, weights = range(training.rows), torch.from_numpy(inside.astype(np.float32))
        values: dict[str, list[Float32]] = {}
        for seed in unit.seeds:
            if same_seed:
                model = training.model(rows, seed, weights=weights)
                if inside.all():
                    self._compare_with_checkpoint(model, seed)
            else:
                model = training.model(np.flatnonzero(inside).tolist(), seed)
            for name in targets:
                values.setdefault(f"outputs_{name}", []).append(training.outputs(model, name))
                if same_seed:
                    values.setdefault(f"losses_{name}", []).append(training.losses(model, name))
            meter.advance()
        arrays: dict[str, Array] = {"weights": weights.numpy()} if same_seed else {"mask": inside}
        arrays |= self._samples | {name: np.stack(arrays) for name, arrays in values.items()}
        write_image(unit.path, arrays, self._fingerprint | unit.entry, provenance(self._device))

    def search_flips(self, searches: Sequence[FlipSearch], share: Share) -> tuple[int, int]:
        """Train the models of this worker's targets, one after the other; how many targets, and how many new files."""
        own = share.of([(search, place) for search in searches for place in range(len(search.targets.rows))])
        if not own:
            return 0, 0
        full = Unit(searches[0].layout.retrained_full(searches[0].run), run_seeds(self._config), lambda: np.empty(0, np.int64))
        files = 0
        with self._reporter.meter("flips", len(own), "targets") as meter:

            def train(unit: Unit) -> None:
                nonlocal files
                if not self.stored(unit):
                    with unit_of_work():
                        self.train(unit, Silent())
                    files += 1

            train(full)  # another worker may not have it yet
            before = [search.before() for search in searches]
            for search, place in own:
                if before[searches.index(search)][place] > 0:
                    search.search(place, lambda removal: train(_unit(self._config, removal)))
                meter.advance()
        return len(own), files

    def _compare_with_checkpoint(self, model: torch.nn.Module, seed: int) -> None:
        """Log if the run, trained again, is not the checkpoint that `trak train` has stored."""
        path = checkpoint_path(self._config.train, seed)
        stored = path.read_bytes() if path.exists() else None
        if stored is not None and all(stored != dump(model, notes) for notes in (CAN_BE_BLENDED, {})):
            self._reporter.log(
                f"warning: training with seed {seed} again does not give {path}: the trainer is not deterministic, or settings,"
                " device or threads have changed since. The results are not of that checkpoint; to train it again, remove it"
                " and run trak train"
            )
