"""A user's project with pictures, captions, a tokenizer file and a tiny CLIP model; nothing of it comes from a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

WORDS = ("a", "dark", "bright", "picture", "photo", "of", "nothing", "at", "all")
TRAIN, TEST, OTHERS = 20, 6, 8

_TEXT = {"vocab_size": 16, "max_position_embeddings": 10, "bos_token_id": 1, "eos_token_id": 2 + 1, "pad_token_id": 0}
_SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def write_tokenizer(path: Path) -> None:
    """One token for each word, between a start and an end token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[BOS]", "[UNK]", "[EOS]"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 3)])
    tokenizer.save(str(path))


def write_clip_project(folder: Path) -> None:
    """Pictures of noise, dark or bright, and captions that say so in different lengths."""
    from PIL import Image

    (folder / "pictures").mkdir(parents=True)
    write_tokenizer(folder / "tokenizer.json")
    draw = np.random.default_rng(0)
    lines = []
    for i in range(TRAIN + TEST):
        bright = i % 2
        Image.fromarray((draw.integers(0, 128, (8, 8)) + 127 * bright).astype(np.uint8)).save(folder / "pictures" / f"{i}.png")
        text = f"a {'bright' if bright else 'dark'} picture" + " of nothing at all" * (i % 3 == 0)
        lines.append(f"{i}.png,{text}")
    (folder / "train.csv").write_text("\n".join(["image,caption", *lines[:TRAIN]]) + "\n")
    (folder / "test.csv").write_text("\n".join(["image,caption", *lines[TRAIN:]]) + "\n")
    data = {"path": "pictures", "tokenizer": "tokenizer.json", "length": 10, "size": 8, "mean": [0.5], "std": [0.5]}
    node = {"_target_": "trak_cli.plugins.ImageTextPairs", **data}
    config = {
        "defaults": ["trak", "_self_", {"override model": "hf_clip"}, {"override task": "contrastive"}],
        "name": "clip",
        "device": "cpu",
        "threads": 1,
        "checkpoints": "${store}/checkpoints/*.safetensors",
        "model": {
            "name": None,
            "config": {
                "projection_dim": 8,
                "text_config": {**_TEXT, **_SMALL},
                "vision_config": {"image_size": 8, "patch_size": 4, "num_channels": 1, **_SMALL},
            },
        },
        "task": {"others": OTHERS},
        "dataset": {"train": {**node, "table": "train.csv"}, "targets": {"test": {**node, "table": "test.csv"}}},
        "gradients": {"engine": "vmap", "microbatch": 4},
        "projection": {"dim": 64},
        "features": {"shard_rows": 8},
        "train": {"count": 2},
        "trainer": {"epochs": 2, "batch_size": 10},
        "retrain": {"subsets": 2},
    }
    (folder / "clip.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
