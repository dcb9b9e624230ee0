"""Small files and folders of other programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint import save
from torch.distributed.checkpoint.filesystem import FileSystemWriter

from trak_cli.results.exchange.contract import ScoreStream
from trak_cli.results.exchange.registry import FORMATS
from trak_cli.types import Float32, Rows

Tensors = Mapping[str, torch.Tensor]


def sharded_index(path: Path, tensors: Tensors) -> None:
    """A folder of save_pretrained with two shards."""
    path.mkdir()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:1], "model-00002-of-00002.safetensors": names[1:]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, path / file)
    weight_map = {name: file for file, held in shards.items() for name in held}
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def distributed(path: Path, tensors: Tensors) -> None:
    """A folder of torch.distributed.checkpoint."""
    save(dict(tensors), storage_writer=FileSystemWriter(path), no_dist=True)


def exported(path: Path, name: str, scores: Float32) -> None:
    """What ``trak export`` writes."""

    def blocks():
        yield Rows(0, scores.shape[0]), Rows(0, scores.shape[1]), scores

    FORMATS[name].load().write(path, ScoreStream(scores.shape, range(len(scores)), {"by": "trak"}, blocks))


def bergson(path: Path, scores: Float32) -> None:
    """A score folder of bergson."""
    exported(path, "bergson", scores)


def zarr_group(path: Path, scores: Float32) -> None:
    """A Zarr group."""
    exported(path, "zarr", scores)


def traker(path: Path, scores: Float32) -> None:
    """A save directory of MadryLab/trak."""
    (path / "scores").mkdir(parents=True)
    targets, rows = scores.shape
    (path / "metadata.json").write_text(json.dumps({"train set size": rows}))
    described = {"num_targets": targets, "scores_path": "elsewhere", "scores_finalized": 1}
    (path / "experiments.json").write_text(json.dumps({"one": described}))
    np.save(path / "scores" / "one.npy", scores.T)
    (path / "scores" / "one.npy").rename(path / "scores" / "one.mmap")
