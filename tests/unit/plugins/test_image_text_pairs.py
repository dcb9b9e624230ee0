"""Image–caption pairs: a folder, a table, a tokenizer file; and CLIP models by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trak_cli.errors import ConfigError, InputError
from trak_cli.plugins import ImageTextPairs, hf_clip, open_clip_model
from trak_cli.plugins.samples import check_repeatable, collate

Image = pytest.importorskip("PIL.Image")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ("[PAD]", "[BOS]", "[UNK]", "[EOS]", "a", "cat", "dog", "on", "the", "mat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures and a tokenizer of one token for each word."""
    for name, value in (("1.png", 0), ("sub/2.png", 255)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((6, 4, 3), value, dtype=np.uint8)).save(tmp_path / name)
    words = {word: i for i, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = [("[BOS]", 1), ("[EOS]", 3)]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("[BOS] $A [EOS]", special_tokens=special)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "pairs.csv").write_text('image,caption\n1.png,a cat\nsub/2.png,"a dog, on the mat"\n')
    return tmp_path


def pairs(folder: Path, **arguments: Any) -> ImageTextPairs:
    settings = {"table": str(folder / "pairs.csv"), "length": 9, "size": 4, "mean": [0.0] * 3, "std": [1.0] * 3}
    return ImageTextPairs(str(folder), tokenizer=str(folder / "tokenizer.json"), **{**settings, **arguments})


def test_pixels_tokens_mask_and_key(folder: Path) -> None:
    pytest.importorskip("transformers")
    data = pairs(folder)
    assert len(data) == 2
    one, other = data[0], data[1]
    assert one["pixel_values"].shape == (3, 4, 4)
    assert one["input_ids"].tolist() == [1, 4, 5, 3, 0, 0, 0, 0, 0]
    assert one["attention_mask"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert other["input_ids"].tolist() == [1, 4, 6, 2, 7, 8, 9, 3, 0]
    assert data.describe(1)["caption"] == "a dog, on the mat"
    batch = collate([one, other])
    assert batch["key"].dtype == torch.int64
    assert batch["input_ids"].shape == (2, 9)
    check_repeatable(data, range(2))


def test_keys_identify_pairs_and_ignore_padding(folder: Path) -> None:
    pytest.importorskip("transformers")
    rows = ["1.png,a cat", "1.png,a cat", "1.png,a dog", "sub/2.png,a cat"]
    (folder / "pairs.csv").write_text("\n".join(["image,caption", *rows]) + "\n")
    data = pairs(folder)
    keys = [data[i]["key"] for i in range(4)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert [pairs(folder, length=5)[i]["key"] for i in range(4)] == keys
    assert all(-(2**63) <= key < 2**63 for key in keys)


def test_a_caption_that_is_too_long_keeps_its_end_token(folder: Path) -> None:
    pytest.importorskip("transformers")
    assert pairs(folder, length=4)[1]["input_ids"].tolist() == [1, 4, 6, 3]


def test_jsonl_and_other_names_of_columns(folder: Path) -> None:
    pytest.importorskip("transformers")
    rows = [{"file": "sub/2.png", "text": "a cat", "more": 3}, {"file": "1.png", "text": "the mat"}]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    data = pairs(folder, table=str(folder / "pairs.jsonl"), image="file", caption="text", first=1)
    assert (len(data), data.describe(0)["caption"]) == (1, "the mat")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("image,text\n1.png,a cat\n", "no text under 'caption'"),
        ("image,caption\nnowhere.png,a cat\nnor.png,b\n", r"nowhere\.png \(and 1 more\)"),
        ("image,caption\n1.png\n", "row 0 of"),
    ],
)
def test_tables_that_do_not_fit_are_refused(folder: Path, content: str, says: str) -> None:
    pytest.importorskip("transformers")
    (folder / "pairs.csv").write_text(content)
    with pytest.raises(InputError, match=says):
        pairs(folder)


def test_files_that_are_missing_or_broken_are_named(folder: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match="no such file"):
        pairs(folder, table=str(folder / "nothing.csv"))
    (folder / "pairs.jsonl").write_text("{no json\n")
    with pytest.raises(InputError, match="cannot be read"):
        pairs(folder, table=str(folder / "pairs.jsonl"))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"dataset\.tokenizer"):
        pairs(folder)
    with pytest.raises(ConfigError, match="length"):
        pairs(folder, length=1)


def test_clip_by_configuration_and_by_folder(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {"projection_dim": 4, "text_config": {**small, "vocab_size": 9}, "vision_config": {**small, "image_size": 32}}
    model: Any = hf_clip(config=config)
    assert (model.config.projection_dim, model.config.vision_config.image_size) == (4, 32)
    model.save_pretrained(tmp_path)
    expected = model.state_dict()
    assert hf_clip(str(tmp_path)).state_dict().keys() == expected.keys()
    trained = hf_clip(str(tmp_path), pretrained=True).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in trained.items())
    with pytest.raises(ConfigError, match="attention"):
        hf_clip(config=config, attention="none")
    with pytest.raises(ConfigError, match="model_type 'vit'"):
        hf_clip(config={"model_type": "vit"})


def test_open_clip_is_asked_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in: what is called, and a missing package."""
    library: Any = ModuleType("open_clip")
    library.list_models = lambda: ["ViT-B-32"]
    library.create_model = lambda name, pretrained: nn.Linear(1, 1)
    monkeypatch.setitem(sys.modules, "open_clip", library)
    assert isinstance(open_clip_model("ViT-B-32"), nn.Module)
    with pytest.raises(ConfigError, match="ViT-B-33"):
        open_clip_model("ViT-B-33")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ConfigError, match=r"open_clip.*trak-cli\[clip\]"):
        open_clip_model("ViT-B-32")
