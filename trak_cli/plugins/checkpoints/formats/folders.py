"""Folders that are checkpoints: which file in them holds the weights.

save_pretrained and the Trainer of Hugging Face, Accelerate, DeepSpeed and torch.distributed.checkpoint write such folders.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from trak_cli.plugins.checkpoints.formats.sharded import INDEX_SUFFIX
from trak_cli.user_files import parse_json, read_text

#: The index in a folder of torch.distributed.checkpoint.
INDEX = ".metadata"

#: Where the weights of a folder are, in the order of preference: of the same weights in two formats, the safer one.
_PLACES = (
    "model.safetensors",
    f"model.safetensors{INDEX_SUFFIX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX_SUFFIX}",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "diffusion_pytorch_model.safetensors",
    f"diffusion_pytorch_model.safetensors{INDEX_SUFFIX}",
    "diffusion_pytorch_model.bin",
    INDEX,
    f"pytorch_model_fsdp_0/{INDEX}",
    "mp_rank_00_model_states.pt",
    "checkpoint/mp_rank_00_model_states.pt",
)

#: Where DeepSpeed writes the name of its newest folder.
_LATEST = "latest"

#: What training programs write beside the weights.
_OTHER = re.compile(
    r"(optimizer|scheduler|scaler|training_args|rng_state\w*|random_states\w*|trainer_state)\.(pt|pth|bin|pkl|json)"
)

_SHARD = re.compile(r".+-\d{5}-of-\d{5}\.\w+")


def weights_in(folder: Path) -> Path | None:
    """The file of weights in a folder, or the folder of torch.distributed.checkpoint in it; None if none is recognised."""
    places = list(_PLACES)
    with suppress(OSError, ValueError):
        latest = read_text(folder / _LATEST).strip()
        if Path(latest).name == latest != "..":  # a folder in this one
            places.append(f"{latest}/mp_rank_00_model_states.pt")
    weights = next((folder / place for place in places if (folder / place).is_file()), None)
    return weights.parent if weights is not None and weights.name == INDEX else weights


def is_other(path: Path) -> bool:
    """Whether the file is one that training programs write beside the weights, such as ``optimizer.pt``."""
    return _OTHER.fullmatch(path.name) is not None


def index_of(path: Path) -> Path | None:
    """For a shard of a model in several files (``model-00001-of-00002.safetensors``), the index that names it; else None."""
    if not _SHARD.fullmatch(path.name):
        return None
    for index in sorted(path.parent.glob(f"*{INDEX_SUFFIX}")):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            names = parse_json(read_text(index))["weight_map"].values()
            if path.name in names:
                return index
    return None
