"""``trak train``: a few checkpoints of the configured model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from trak_cli.config import Loaded
from trak_cli.plugins import AfterEpoch, dump
from trak_cli.stages.machine import choose_device, use_threads
from trak_cli.stages.training import Training
from trak_cli.store import sweep, write_once
from trak_cli.types import Reporter


@dataclass(frozen=True)
class TrainSummary:
    """The checkpoint files at the end of each training, and how many were trained now. Snapshots lie beside them."""

    checkpoints: list[Path]
    trained: int


def train(loaded: Loaded, reporter: Reporter) -> TrainSummary:
    """Train ``train.count`` models on the whole training set; those whose files are there already are left as they are.

    Raises:
        ConfigError, InputError, MachineError: see the classes.
    """
    config = loaded.config
    device = choose_device(config.device)
    use_threads(config.threads)
    training = Training(config, device)
    folder = Path(config.train.folder)
    seeds = range(config.train.seed, config.train.seed + config.train.count)
    paths = {seed: folder / f"full_{seed}.safetensors" for seed in seeds}
    pending = [seed for seed in seeds if not paths[seed].exists()]
    everything = range(training.rows)
    with reporter.meter("train", len(pending), "models") as meter:
        for seed in pending:
            model = training.model(everything, seed, _snapshots(folder, seed, config.train.snapshots))
            write_once(paths[seed], dump(model))
            meter.advance()
    sweep(folder)
    return TrainSummary(list(paths.values()), len(pending))


def _snapshots(folder: Path, seed: int, every: int) -> AfterEpoch | None:
    """Saves the model after every so many epochs; a file that is there (of a training that was interrupted) stays."""
    if not every:
        return None

    def save(model: nn.Module, epoch: int) -> None:
        if epoch % every == 0:
            write_once(folder / f"full_{seed}_epoch_{epoch}.safetensors", dump(model))

    return save
