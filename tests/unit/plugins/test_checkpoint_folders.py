"""Folders as checkpoints: how they are found, what they are called, and what identifies them."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trak_cli.errors import ConfigError, InputError
from trak_cli.plugins.checkpoints.files import find
from trak_cli.plugins.checkpoints.formats.tensors import as_tensor
from trak_cli.plugins.checkpoints.identity import name_of, sha256
from trak_cli.plugins.checkpoints.state import apply, load

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in {"a": (3, 2), "b": (4,), "c": ()}.items()}


def trainer(folder: Path, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    save_file(weights(seed), folder / "model.safetensors")
    torch.save({"state": {0: torch.ones(2)}}, folder / "optimizer.pt")
    (folder / "config.json").write_text("{}")
    return folder


def distributed(folder: Path, **more: Any) -> Path:
    import torch.distributed.checkpoint as dcp

    dcp.save({"model": weights(), **more}, checkpoint_id=folder)
    return folder


def test_folders_are_found_in_natural_order_and_those_without_weights_are_left_out(tmp_path: Path) -> None:
    for step in (10, 9, 100):
        trainer(tmp_path / "out" / f"checkpoint-{step}")
    (tmp_path / "out" / "runs").mkdir()
    (tmp_path / "out" / "logs").mkdir()
    assert [path.name for path in find("out/*", tmp_path)] == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]
    assert find(["out/checkpoint-9", "out/checkpoint-9/"], tmp_path) == [tmp_path / "out" / "checkpoint-9"]


def test_files_of_the_optimizer_are_left_out_of_the_matches_of_a_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    for name in ("pytorch_model.bin", "optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state_0.pth", "optimizer.bin"):
        torch.save(weights(), folder / name)
    assert [path.name for path in find("*/*.bin", tmp_path)] == ["pytorch_model.bin"]
    with pytest.raises(ConfigError, match=r"beside the weights.*checkpoints=checkpoint-1"):
        find("checkpoint-1/*.pt", tmp_path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("out/checkpoint-100/model.safetensors", "checkpoint-100"),
        ("out/checkpoint-100/pytorch_model.bin", "checkpoint-100"),
        ("out/checkpoint-100/model.safetensors.index.json", "checkpoint-100"),
        ("out/checkpoint-100/pytorch_model.bin.index.json", "checkpoint-100"),
        ("adapters/first/adapter_model.safetensors", "first"),
        ("run 1/best.pt", "run_1_best"),
        ("version_0/checkpoints/last.ckpt", "checkpoints_last"),
        ("a/full_0.safetensors", "full_0"),
        ("a/epoch=3-step=40.ckpt", "epoch_3-step_40"),
    ],
)
def test_a_checkpoint_has_the_name_of_its_folder_if_that_of_its_file_says_nothing(path: str, name: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    assert name_of(tmp_path / path, "0123456789") == f"{name}-01234567"


def test_a_folder_has_its_own_name_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trainer(tmp_path / "out" / "checkpoint-1.5")
    monkeypatch.chdir(folder)
    assert {name_of(path, "0" * 8) for path in (folder, folder / ".", Path(), folder / ".." / "checkpoint-1.5")} == {
        "checkpoint-1.5-00000000"
    }


def test_a_folder_and_the_file_in_it_are_the_same_checkpoint(tmp_path: Path) -> None:
    folder = trainer(tmp_path / "checkpoint-1")
    assert sha256(folder) == sha256(folder / "model.safetensors")


def test_the_identity_of_a_folder_is_that_of_its_weights(tmp_path: Path) -> None:
    folder = trainer(tmp_path / "checkpoint-1")
    before = sha256(folder)
    torch.save({"state": {0: torch.zeros(2)}}, folder / "optimizer.pt")
    (folder / "config.json").write_text('{"a": 1}')
    assert sha256(folder) == before
    save_file(weights(1), folder / "model.safetensors")
    assert sha256(folder) != before


def test_the_identity_of_a_distributed_checkpoint_covers_every_shard(tmp_path: Path) -> None:
    folder = distributed(tmp_path / "dcp")
    before = sha256(folder)
    shard = next(folder.glob("*.distcp"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert sha256(folder) != before


def in_pieces(folder: Path, whole: torch.Tensor, offsets: list[tuple[int, int]], size: tuple[int, int]) -> Path:
    """What several ranks write: each holds a piece of the tensor ``w`` in a shard of its own."""
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from torch.distributed.checkpoint.metadata import (
        ChunkStorageMetadata,
        Metadata,
        MetadataIndex,
        TensorProperties,
        TensorStorageMetadata,
    )

    folder.mkdir()
    places = {}
    for rank, (row, column) in enumerate(offsets):
        shard = folder / f"__{rank}_0.distcp"
        torch.save(whole[row : row + size[0], column : column + size[1]].clone(), shard)
        places[MetadataIndex("w", (row, column))] = _StorageInfo(shard.name, 0, shard.stat().st_size)
    chunks = [ChunkStorageMetadata(torch.Size(offset), torch.Size(size)) for offset in offsets]
    entry = TensorStorageMetadata(TensorProperties(whole.dtype), whole.shape, chunks)
    (folder / ".metadata").write_bytes(pickle.dumps(Metadata({"w": entry}, storage_data=places)))
    return folder


def test_a_distributed_checkpoint_is_put_together_from_the_pieces_of_all_ranks(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    corners = [(0, 0), (0, 3), (2, 0), (2, 3)]
    assert torch.equal(as_tensor(load(in_pieces(tmp_path / "four", whole, corners, (2, 3)))["w"]), whole)
    with pytest.raises(InputError, match="18 of 24 numbers of w"):
        as_tensor(load(in_pieces(tmp_path / "three", whole, corners[:3], (2, 3)))["w"])


def test_only_the_tensors_that_are_used_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = distributed(tmp_path / "dcp", optim={"state": {"a": {"exp_avg": torch.ones(3, 2)}}}, step=3)
    held = load(folder)
    assert "optim.state.a.exp_avg" in held
    read: list[int] = []
    original = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **more: read.append(1) or original(*args, **more))  # type: ignore[func-returns-value]
    model = torch.nn.ParameterDict({name: torch.nn.Parameter(torch.zeros_like(value)) for name, value in weights().items()})
    apply(model, held, folder)
    assert len(read) == 3
    assert torch.equal(model["a"], weights()["a"])


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_the_index_of_a_distributed_checkpoint_runs_no_code(tmp_path: Path) -> None:
    folder = distributed(tmp_path / "dcp")
    (folder / ".metadata").write_bytes(pickle.dumps(Bomb(tmp_path / "marker")))
    for read in (load, sha256):
        with pytest.raises(InputError, match=r"the class (posix|nt)\.system"):
            read(folder)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: next(folder.glob("*.distcp")).unlink(), "no __0_0.distcp"),
        (lambda folder: (folder / ".metadata").write_bytes(b""), "copy or save the folder again"),
        (lambda folder: (folder / ".metadata").write_bytes(b"\x80\x04N."), "copy or save the folder again"),
        (lambda folder: os.truncate(next(folder.glob("*.distcp")), 100), "copy or save the folder again"),
    ],
)
def test_a_damaged_distributed_checkpoint_is_refused(damage: Any, told: str, tmp_path: Path) -> None:
    folder = distributed(tmp_path / "dcp")
    damage(folder)
    model = torch.nn.ParameterDict({name: torch.nn.Parameter(torch.zeros_like(value)) for name, value in weights().items()})
    with pytest.raises(InputError, match=told):
        apply(model, load(folder), folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull --include=c"),
    ],
)
@pytest.mark.parametrize("name", ["c.pt", "c.safetensors", "c.bin"])
def test_a_file_that_was_not_downloaded_is_named_as_such(content: bytes, told: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told):
        load(tmp_path / name)


def test_a_shard_without_its_index_is_read_alone(tmp_path: Path) -> None:
    shard = tmp_path / "model-00001-of-00002.safetensors"
    save_file(weights(), shard)
    assert find("*.safetensors", tmp_path) == [shard]
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "another.safetensors"}}))
    assert find("*.safetensors", tmp_path) == [shard]
