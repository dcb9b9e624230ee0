"""The names of the files that `trak train` writes."""

from __future__ import annotations

from pathlib import Path

from trak_cli.config.schema import TrainConfig


def checkpoint_path(train: TrainConfig, seed: int) -> Path:
    """The file of the model that is trained with ``seed``.

    ``full_SEED`` for training from scratch; ``START_tuned_SEED`` for training all parameters from the checkpoint START;
    ``START_part_SEED`` or ``part_SEED`` with ``train.only_parameters``.
    """
    kind = "part" if train.only_parameters else "full" if train.start is None else "tuned"
    origin = "" if train.start is None else f"{Path(train.start).stem}_"
    return Path(train.folder) / f"{origin}{kind}_{seed}.safetensors"
