"""``trak train``: trains a few checkpoints of the configured model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from trak_cli.config.load import Loaded
from trak_cli.plugins.trainers.contract import AfterEpoch
from trak_cli.stages.inputs.device import refuse_device_map, set_up_device
from trak_cli.stages.training.checkpoint_files import checkpoint_path
from trak_cli.stages.training.trainer_run import Training
from trak_cli.store.atomic_write import write_once
from trak_cli.store.temp_files import sweep
from trak_cli.types import Reporter


@dataclass(frozen=True)
class TrainSummary:
    """The checkpoint files, and how many of them this call trained. Snapshots are in the same folder."""

    checkpoints: list[Path]
    trained: int


def train(loaded: Loaded, reporter: Reporter) -> TrainSummary:
    """Train ``train.count`` models on the whole training set. Models whose files exist are not trained again.

    :func:`checkpoint_path` names the files. Snapshots append ``_epoch_EPOCH``.

    Raises:
        ConfigError, InputError, MachineError: see the classes.
    """
    config = loaded.config
    refuse_device_map(config, "train")
    device, _ = set_up_device(config.device, config.threads)
    training = Training(config, device)
    seeds = range(config.seed, config.seed + config.train.count)
    paths = {seed: checkpoint_path(config.train, seed) for seed in seeds}
    pending = [seed for seed in seeds if not paths[seed].exists()]
    everything = range(training.rows)
    with reporter.meter("train", len(pending), "models") as meter:
        for seed in pending:
            content = training.as_checkpoint
            model = training.model(everything, seed, _snapshots(content, paths[seed], config.train.snapshots))
            write_once(paths[seed], content(model))
            meter.advance()
    sweep(Path(config.train.folder))
    return TrainSummary(list(paths.values()), len(pending))


def _snapshots(content: Callable[[nn.Module], bytes], path: Path, every: int) -> AfterEpoch | None:
    """A function that saves the model next to ``path`` after every ``every`` epochs; existing snapshots are kept."""
    if not every:
        return None

    def save(model: nn.Module, epoch: int) -> None:
        if epoch % every == 0:
            write_once(path.with_name(f"{path.stem}_epoch_{epoch}{path.suffix}"), content(model))

    return save
