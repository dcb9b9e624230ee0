"""What determines unrolled scores: the run that is replayed, its samples, and the targets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import target_of
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.stages.inputs.sample_identity import sample_ids
from trak_cli.stages.unrolling.targets import TargetRows
from trak_cli.store.fingerprint import digest
from trak_cli.store.header import FORMAT_VERSION
from trak_cli.types import TRAIN, Json

#: Version of the derivative; another one invalidates stored scores.
VERSION = 2


def run_fingerprint(config: TrakConfig, splits: Mapping[str, Any]) -> Json:
    """What determines the trained model: plugins with their arguments, the seed, and all training samples."""
    rows = len(splits[TRAIN])
    collate = config.dataset.collate
    identity: Json = {
        "format": FORMAT_VERSION,
        "model": target_of(config.model),
        "task": target_of(config.task),
        "trainer": target_of(config.trainer),
        "collate": None if collate is None else target_of(collate),
        "seed": config.seed + config.unroll.run,
        "rows": rows,
        "samples": {TRAIN: _digest_of(splits[TRAIN], range(rows))},
    }
    if config.train.start is not None:
        identity["start"] = sha256(Path(config.train.start))
    if config.train.only_parameters:
        identity["parameters"] = asdict(config.parameters)
    return identity


def split_fingerprint(run: Json, targets: TargetRows, splits: Mapping[str, Any]) -> Json:
    """What determines the outputs of the trained model on the whole split."""
    samples = {**run["samples"], targets.split: _digest_of(splits[targets.split], range(targets.total))}
    return {**run, "samples": samples, "split": targets.split, "targets": targets.total}


def scores_fingerprint(run: Json, split: Json, targets: TargetRows) -> Json:
    """What determines the scores of the targets, apart from how many are differentiated together.

    Args:
        run: the result of :func:`run_fingerprint`.
        split: the result of :func:`split_fingerprint`.
    """
    return {
        **split,
        "kind": "scores",
        "estimator": {"unroll": VERSION},
        "checkpoints": [digest(run)],
        "top_k": None,
        **({} if targets.chosen is None else targets.chosen.entry()),
    }


def _digest_of(dataset: Any, rows: Iterable[int]) -> str:
    """The sha256, in hexadecimal, of the digests of these samples in order."""
    ids = np.array(list(sample_ids(dataset, rows).values()), "<u8")
    return hashlib.sha256(ids.tobytes()).hexdigest()
