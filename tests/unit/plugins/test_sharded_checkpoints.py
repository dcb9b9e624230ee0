"""A checkpoint in several files is one checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trak_cli.errors import InputError
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.plugins.checkpoints.state import load

STATE = {"a": torch.ones(2), "b": torch.zeros(3), "c": torch.full((1,), 5.0)}
PLACES = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}


def written(folder: Path) -> Path:
    for part in set(PLACES.values()):
        save_file({name: STATE[name] for name, place in PLACES.items() if place == part}, folder / part)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 24}, "weight_map": PLACES}))
    return index


def test_the_parts_are_joined(tmp_path: Path) -> None:
    found = load(written(tmp_path))
    assert {name: value.tolist() for name, value in found.items()} == {name: one.tolist() for name, one in STATE.items()}


def test_sharded_files_of_save_pretrained_are_read(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from trak_cli.plugins.checkpoints.state import apply
    from trak_cli.plugins.text import text_model

    config = {
        "model_type": "gpt2",
        "n_embd": 8,
        "n_layer": 2,
        "n_head": 2,
        "vocab_size": 20,
        "bos_token_id": 1,
        "eos_token_id": 1,
    }
    saved = text_model("causal_lm", config=config)
    saved.save_pretrained(tmp_path, max_shard_size="4KB")  # type: ignore[operator]
    index = tmp_path / "model.safetensors.index.json"
    assert index.is_file()
    model = text_model("causal_lm", config=config)
    apply(model, load(index), index)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), saved.parameters(), strict=True))


def test_its_identity_is_that_of_every_part(tmp_path: Path) -> None:
    index = written(tmp_path)
    before = sha256(index)
    save_file({"b": torch.full((3,), 0.5)}, tmp_path / "model-2.safetensors")
    assert sha256(index) != before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "weight_map"),
        ('{"weight_map": []}', "weight_map"),
        ('{"weight_map": {}}', "no file names"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "gone.safetensors"),
        ('{"weight_map": {"a": "../model-1.safetensors"}}', "beside the index"),
    ],
)
def test_an_index_that_names_missing_files_is_refused(content: str, said: str, tmp_path: Path) -> None:
    index = written(tmp_path)
    index.write_text(content)
    for read in (load, sha256):
        with pytest.raises(InputError, match=said):
            read(index)
