"""``trak retrain``: the ground truth of the LDS. Trains models on random subsets and stores their outputs on the targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import target_of
from trak_cli.errors import InputError
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.inputs.device import set_up_device
from trak_cli.stages.inputs.sample_identity import Array, changed_samples, sample_arrays
from trak_cli.stages.inputs.worker import worker_share
from trak_cli.stages.training.trainer_run import Training
from trak_cli.store.container import read_image
from trak_cli.store.fingerprint import require_same
from trak_cli.store.header import FORMAT_VERSION
from trak_cli.store.layout import Layout
from trak_cli.store.publish import write_image
from trak_cli.store.temp_files import sweep
from trak_cli.types import TRAIN, BoolArray, Float32, Json, Reporter

#: Added to ``seed``, so that the models of the ground truth share no seed with the checkpoints of `trak train`.
SEED_OFFSET = 1000


@dataclass(frozen=True)
class RetrainSummary:
    """The result of a call of retrain; ``subset_rows`` is the size of every subset."""

    folder: Path
    rows: int
    subsets: int
    subset_rows: int
    models_per_subset: int
    trained: int
    left_to_others: int


def retrain(loaded: Loaded, reporter: Reporter) -> RetrainSummary:
    """Train on every subset of this worker's share that is not stored yet, and store masks and outputs.

    Workers that cannot distinguish their shares take the subsets in different orders, so each subset is looked up again just
    before it is trained. ``train.start`` and ``train.only_parameters`` apply as in `trak train`: the ground truth is the same
    training on less data.

    Raises:
        ConfigError, InputError, StoreError, MachineError: see the classes.
    """
    config = loaded.config
    device, _ = set_up_device(config.device, config.threads)
    training = Training(config, device)
    layout = Layout(Path(config.store))
    share = worker_share(config.worker, reporter)
    fingerprint, samples = _fingerprint(config, training), sample_arrays(training.splits)
    own = share.of(range(config.retrain.subsets))
    for subset in layout.retrained_subsets()[:1]:  # another worker may have trained on other data
        _is_stored(layout.retrained(subset), fingerprint, samples)
    pending = [subset for subset in own if not _is_stored(layout.retrained(subset), fingerprint, samples)]
    trained = 0
    with reporter.meter("retrain", len(pending) * config.retrain.models_per_subset, "models") as meter:
        for subset in pending:
            if _is_stored(layout.retrained(subset), fingerprint, samples):
                continue
            mask = subset_mask(training.rows, config.retrain.fraction, config.seed + SEED_OFFSET, subset)
            arrays: dict[str, Array] = {"mask": mask, **samples}
            rows = np.flatnonzero(mask).tolist()
            outputs: dict[str, list[Float32]] = {name: [] for name in training.splits if name != TRAIN}
            for repeat in range(config.retrain.models_per_subset):
                model = training.model(rows, _model_seed(config, subset, repeat))
                for name, values in outputs.items():
                    values.append(training.outputs(model, name))
                meter.advance()
            arrays |= {f"outputs_{name}": np.stack(values) for name, values in outputs.items()}
            write_image(layout.retrained(subset), arrays, fingerprint, provenance(device))
            trained += 1
    sweep(layout.retrained_folder)
    return RetrainSummary(
        layout.retrained_folder,
        training.rows,
        config.retrain.subsets,
        _subset_size(training.rows, config.retrain.fraction),
        config.retrain.models_per_subset,
        trained,
        config.retrain.subsets - len(own),
    )


def _is_stored(path: Path, fingerprint: Json, samples: Mapping[str, Array]) -> bool:
    """Whether the result of a subset is stored.

    Raises:
        StoreError: the file is damaged, or belongs to another run.
        InputError: it was computed from other samples.
    """
    if not path.exists():
        return False
    image = read_image(path)
    require_same(path, image.fingerprint, fingerprint)
    if changed := changed_samples(image.arrays, samples, f"{path} was made"):
        raise InputError(changed)
    return True


def subset_mask(rows: int, fraction: float, seed: int, subset: int) -> BoolArray:
    """Random subset number ``subset``: (rows,) bool, of which round(fraction · rows) are true."""
    generator = np.random.default_rng([seed, subset])
    mask = np.zeros(rows, dtype=np.bool_)
    mask[generator.permutation(rows)[: _subset_size(rows, fraction)]] = True
    return mask


def _subset_size(rows: int, fraction: float) -> int:
    return max(1, round(fraction * rows))


def _model_seed(config: TrakConfig, subset: int, repeat: int) -> int:
    return int(np.random.SeedSequence([config.seed + SEED_OFFSET, subset, repeat]).generate_state(1)[0])


def _fingerprint(config: TrakConfig, training: Training) -> Json:
    targets = {name: len(dataset) for name, dataset in training.splits.items()}
    return {
        "kind": "retrained",
        "format": FORMAT_VERSION,
        "model": target_of(config.model),
        "task": target_of(config.task),
        "trainer": target_of(config.trainer),
        "rows": targets,
        "fraction": config.retrain.fraction,
        "models_per_subset": config.retrain.models_per_subset,
        "seed": config.seed + SEED_OFFSET,
        **_beginning(config),
    }


def _beginning(config: TrakConfig) -> Json:
    """The start and the trained parameters, where models are not trained as a whole from scratch."""
    start = {} if config.train.start is None else {"start": sha256(Path(config.train.start))}
    return {**start, "parameters": asdict(config.parameters)} if config.train.only_parameters else start
