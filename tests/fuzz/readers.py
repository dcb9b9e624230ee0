"""Every reader of files that another program or person may have made, each with a small intact file."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import yaml
from harness import Reader
from layouts import bergson, distributed, exported, sharded_index, traker, zarr_group
from mutations import WORDS, lying, mutated
from safetensors.torch import save_file

from trak_cli.attribution.lds.ground_truth import check_ground_truth
from trak_cli.config.compose.files import config_groups
from trak_cli.config.compose.overrides import parse
from trak_cli.config.load import load
from trak_cli.config.stored import read_stored
from trak_cli.errors import ConfigError
from trak_cli.plugins.checkpoints.archive import read_archive
from trak_cli.plugins.checkpoints.formats.tensors import as_tensor, named_tensors
from trak_cli.plugins.checkpoints.readers import reader_of
from trak_cli.results.evaluation.row_files import read_flags, read_relevant
from trak_cli.results.exchange.contract import Source
from trak_cli.results.exchange.ground_truth import read_truth
from trak_cli.results.exchange.registry import FORMATS, read_table
from trak_cli.results.new_samples import read_records
from trak_cli.stages.evaluation.user_arrays import read_array_file
from trak_cli.types import Rows
from trak_cli.user_files import parse_json
from trak_cli.user_hdf5 import open_user_hdf5

Make = Callable[[Path], None]
Read = Callable[[Path], Any]

MASKS = np.random.default_rng(0).random((4, 6)) < 0.5
OUTPUTS = np.random.default_rng(1).normal(size=(4, 2, 3)).astype(np.float32)
SCORES = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2), "half": torch.ones(3, dtype=torch.bfloat16)}
CONFIG = {
    "defaults": ["trak", "_self_"],
    "name": "tiny",
    "store": "runs/${name}",
    "checkpoints": "checkpoints/*",
    "dataset": {"train": {"_target_": "a.B", "rows": 3}, "targets": {"test": {"_target_": "a.B"}}},
    "estimator": {"ridge": 0.5, "name": "x"},
    "projection": {"dim": 64},
    "lds": {"scores": {"one": "a.npy"}},
}


def damage_bytes(path: Path, rng: random.Random) -> None:
    """Damage a file, or one file of a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    file = rng.choice(files)
    file.write_bytes(mutated(file.read_bytes(), rng))


def damage_values(path: Path, rng: random.Random) -> None:
    """Change the values of a JSON document that stays well-formed; or, of a folder, of one of its documents."""
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    file = rng.choice(files)
    document = lying(json.loads(file.read_text()), rng)
    file.write_text(json.dumps(document))


def damage_yaml(path: Path, rng: random.Random) -> None:
    """Change the values of a YAML file, or its bytes."""
    (file,) = path.glob("*.yaml") if path.is_dir() else [path]
    if rng.random() < 0.5:
        file.write_bytes(mutated(file.read_bytes(), rng))
    else:
        file.write_text(yaml.safe_dump(lying(yaml.safe_load(file.read_text()), rng)))


def other_readers() -> list[Reader]:
    """The readers of files without a digest."""
    return [*_checkpoints(), *_ground_truths(), *_scores(), *_texts()]


def _checkpoints() -> list[Reader]:
    def pickled(path: Path, **options: Any) -> None:
        state = {"model": WEIGHTS, "epoch": 3, "extra": [np.arange(3), {"lr": 0.1}]}
        torch.save(state, path, **options)

    makers: list[tuple[str, str, Make]] = [
        ("checkpoint .pt", "c.pt", pickled),
        ("checkpoint .pt, old format", "c.pt", lambda path: pickled(path, _use_new_zipfile_serialization=False)),
        ("checkpoint .safetensors", "c.safetensors", lambda path: save_file(WEIGHTS, path)),
        ("checkpoint in shards", "c", lambda path: sharded_index(path, WEIGHTS)),
        ("checkpoint of FSDP", "c", lambda path: distributed(path, WEIGHTS)),
    ]
    archive = Reader("samples .npz", "c.npz", lambda path: np.savez_compressed(path, w=np.ones(9)), read_archive, damage_bytes)
    return [archive, *(Reader(name, file, make, _read_checkpoint, damage_bytes) for name, file, make in makers)]


def _read_checkpoint(path: Path) -> Any:
    tensors = named_tensors(reader_of(path).read(path))
    return {name: as_tensor(tensor).flatten()[:4].tolist() for name, tensor in tensors.items()}


def _ground_truths() -> list[Reader]:
    def hdf5(path: Path, **options: Any) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("masks", data=MASKS, **options)
            file.create_dataset("outputs", data=OUTPUTS, **options)

    def tensors(path: Path) -> dict[str, torch.Tensor]:
        return {"masks": torch.from_numpy(MASKS), "outputs": torch.from_numpy(OUTPUTS)}

    def truth(path: Path) -> Any:
        arrays = read_array_file(path, ("outputs",), ("masks", "weights"))
        return check_ground_truth(arrays.get("masks", MASKS), arrays["outputs"], 6, 3)

    def rows(path: Path) -> Any:
        return [[array[row] for row in range(min(3, len(array)))] for array in open_user_hdf5(path, ["masks"]).values()]

    chunked = {"chunks": True, "compression": "gzip", "shuffle": True}
    return [
        Reader("ground truth .npz", "t.npz", lambda path: np.savez(path, masks=MASKS, outputs=OUTPUTS), truth, damage_bytes),
        Reader("ground truth .safetensors", "t.safetensors", lambda path: save_file(tensors(path), path), truth, damage_bytes),
        Reader("ground truth .pt", "t.pt", lambda path: torch.save(tensors(path), path), truth, damage_bytes),
        Reader("ground truth .h5", "t.h5", hdf5, truth, damage_bytes),
        Reader("ground truth .h5, compressed", "t.h5", lambda path: hdf5(path, **chunked), truth, damage_bytes),
        Reader("samples .h5, by row", "t.h5", hdf5, rows, damage_bytes),
        Reader(
            "ground truth of dattri",
            "t.pt",
            lambda path: torch.save((torch.from_numpy(OUTPUTS[:, 0]), torch.tensor([[0, 1], [2, 3], [4, 5], [0, 5]])), path),
            lambda path: read_truth(path, 6),
            damage_bytes,
        ),
    ]


def _scores() -> list[Reader]:
    makers: dict[str, Make] = {name: lambda path, name=name: exported(path, name, SCORES) for name in FORMATS}  # type: ignore[misc]
    makers |= {"traker": lambda path: traker(path, SCORES), "zarr": lambda path: zarr_group(path, SCORES)}
    files = {"csv": "s.csv", "parquet": "s.parquet", "npz": "s.npz", "dattri": "s.pt", "date-lm": "s.json"}
    found = [
        Reader(
            f"scores, {name}",
            files.get(name, "s"),
            make,
            _read_scores(name),
            damage_bytes,
            share=0.1 if name == "zarr" else 1.0,
        )
        for name, make in makers.items()
    ]
    bergson_values = Reader(
        "scores, bergson, values", "s", lambda path: bergson(path, SCORES), _read_scores("bergson"), damage_values
    )
    zarr_values = Reader("scores, zarr, values", "s", makers["zarr"], _read_scores("zarr"), damage_values, share=0.1)
    array = Reader("scores, npy", "s.npy", lambda path: np.save(path, SCORES), _read_scores("npz"), damage_bytes)
    return [*found, bergson_values, zarr_values, array]


def _read_scores(name: str) -> Read:
    def read(path: Path) -> Any:
        scratch = path.parent / "scratch"
        scratch.mkdir()
        table = read_table(FORMATS[name], Source(path, None, scratch))
        return table.read(Rows(0, min(table.shape[0], 50)), Rows(0, min(table.shape[1], 50)))

    return read


def _texts() -> list[Reader]:
    def configuration(path: Path) -> None:
        path.mkdir()
        (path / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))

    def overrides(path: Path) -> Any:
        texts = path.read_text(errors="surrogateescape").split("\n")
        parsed = parse(texts, config_groups(), None)
        ConfigError.raise_for(parsed.problems)
        return parsed

    def command(path: Path) -> Any:
        texts = path.read_text(errors="surrogateescape").split("\n")
        return load("score", None, None, ["store=x", *texts]).yaml

    def damage_lines(path: Path, rng: random.Random) -> None:
        lines = rng.sample(path.read_bytes().split(b"\n"), 2)
        text = mutated(b"\n".join(lines), rng).replace(b"\0", b"")
        path.write_bytes(text if rng.random() < 0.8 else text + rng.choice(WORDS).replace(b"\0", b""))

    lines = (
        *("estimator.ridge=0.5", "+vars.b=[1,2,{x: 3}]", "~lds.plot", "estimator=trak", "lds.scores={a: 'x.npy'}", "name=a"),
        *("checkpoints=checkpoints/e=1.pt", "score.splits=[test]", "+vars.x=${name}", 'store="a=b"', "seed=7", "threads=null"),
    )
    samples = [{"source": "a", "label": 3, "x": [1.0, 2.0]}, {"source": "b"}]
    return [
        Reader(
            "configuration .yaml", "c", configuration, lambda path: load("score", None, path, []).yaml, damage_yaml, share=0.05
        ),
        Reader(
            "config.yaml of a store", "c.yaml", lambda path: path.write_text(yaml.safe_dump(CONFIG)), read_stored, damage_yaml
        ),
        Reader("overrides", "o.txt", lambda path: path.write_text("\n".join(lines)), overrides, damage_lines),
        Reader(
            "overrides of a command", "o.txt", lambda path: path.write_text("\n".join(lines)), command, damage_lines, share=0.05
        ),
        Reader("JSON", "j.json", lambda path: path.write_text(json.dumps(samples)), _json, damage_bytes),
        Reader(
            "new samples",
            "n.json",
            lambda path: path.write_text(json.dumps(samples)),
            lambda p: read_records(str(p)),
            damage_bytes,
        ),
        Reader(
            "flagged rows", "r.json", lambda path: path.write_text("[1, 2, 4]"), lambda p: read_flags("--f", p, 6), damage_bytes
        ),
        Reader(
            "relevant rows",
            "r.json",
            lambda path: path.write_text('{"0": [1, 2]}'),
            lambda p: read_relevant("--r", p, 3, 6),
            damage_bytes,
        ),
    ]


def _json(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise ConfigError([]) from error
