"""The features of one split under one checkpoint, as arrays that are read shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, Problem
from trak_cli.plurals import counted
from trak_cli.results.exchange.contract import ArrayStream
from trak_cli.stages.index.inventory import require_shards, take_inventory
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, AnyArray


def feature_arrays(config: TrakConfig, split: str | None, checkpoint: str | None) -> ArrayStream:
    """The arrays ``features`` (rows, k), ``outputs`` (f), ``out_to_loss`` (q) and ``sample_ids`` of a split (default: train).

    Raises:
        ConfigError: there are several checkpoints and none was chosen, or there is no such one.
        StoreError: a shard is missing or damaged.
    """
    layout, split = Layout(Path(config.store)), split or TRAIN
    rows = rows_of(layout, split)
    inventory = take_inventory(layout, config.estimator.average_over if checkpoint is None else [checkpoint])
    if len(inventory.checkpoints) > 1:
        found = f"{counted(len(inventory.checkpoints), 'checkpoint')}: {', '.join(inventory.checkpoints)}"
        remedy = f"choose one, for example --checkpoint {inventory.checkpoints[0]}"
        raise ConfigError(Problem("--checkpoint", found, "one", remedy))
    require_shards(inventory, [split])
    (name,) = inventory.checkpoints

    def parts() -> Iterator[tuple[str, tuple[slice, ...], AnyArray]]:
        for shard in inventory.read_all(name, split):
            place = slice(shard.rows.start, shard.rows.stop)
            yield "features", (place,), shard.features
            yield "outputs", (place,), shard.outputs
            yield "out_to_loss", (place,), shard.out_to_loss
            yield "sample_ids", (place,), shard.sample_ids

    float32 = np.dtype(np.float32)
    arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        "features": ((rows, inventory.dim), float32),
        "outputs": ((rows,), float32),
        "out_to_loss": ((rows,), float32),
        "sample_ids": ((rows,), np.dtype(np.uint64)),
    }
    return ArrayStream(arrays, {"checkpoint": name, "split": split}, parts)
