"""Differences between the names in a file and in a model that do not affect the model's outputs."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from trak_cli.plugins.checkpoints.formats.tensors import Entry, as_tensor

#: The last part of names that belong to no weight: counters of AveragedModel and thop, and state that is not a tensor.
_COUNTERS = frozenset(("n_averaged", "total_ops", "total_params", "_extra_state"))

#: The counter of BatchNorm, which old files lack. Evaluation does not use it.
_BATCHES = "num_batches_tracked"

#: Words in the names of losses and metrics, which training modules hold beside the model, and prefixes of such names.
_LOSSES = re.compile(
    r"(?:^|_)(loss|losses|criterion|criteria|metrics?|acc|accuracy|auroc|auc|auprc|f1score|confmat|precision|recall|iou|miou"
    r"|mse|rmse|mae|psnr|ssim|lpips|bleu|perplexity)(?:$|_|\d)|^(train|val|valid|validation|test)_"
)


#: The pooling layer of transformers' encoders. Language models are built without it, but published files contain it.
_POOLER = "pooler"


class Tolerance:
    """The names that a file may lack, and those that it may hold besides the weights, for one model."""

    def __init__(self, model: nn.Module) -> None:
        stored = model.state_dict(keep_vars=True)
        self._fixed = {name: buffer for name, buffer in model.named_buffers() if name not in stored}
        self._missing = _patterns(model, "_keys_to_ignore_on_load_missing")
        self._unexpected = _patterns(model, "_keys_to_ignore_on_load_unexpected")
        self._unpooled = _without_pooler(model)

    def may_lack(self, name: str) -> bool:
        """Whether the file may lack this name of the model, whose own value is then used."""
        return name.rpartition(".")[2] == _BATCHES or any(pattern.search(name) for pattern in self._missing)

    def may_hold(self, name: str, entry: Entry) -> bool:
        """Whether the file may hold this name, relative to the model, although the model lacks it."""
        *above, last = name.split(".")
        if last in _COUNTERS or any(map(_LOSSES.search, above)) or any(pattern.search(name) for pattern in self._unexpected):
            return True
        if name.rpartition(f"{_POOLER}.")[0] in self._unpooled:
            return True
        fixed = self._fixed.get(name)  # a constant of the model that older versions of its class stored
        return fixed is not None and fixed.shape == entry.shape and _close(fixed, as_tensor(entry))


def _patterns(model: nn.Module, attribute: str) -> list[re.Pattern[str]]:
    """Patterns of names that a model of Hugging Face's transformers declares."""
    declared = getattr(model, attribute, None)
    return [re.compile(str(pattern)) for pattern in declared] if isinstance(declared, list | tuple | set) else []


def _without_pooler(model: nn.Module) -> set[str]:
    """Names, with a dot at the end, of the encoders of a transformers model that are built without a pooling layer."""
    if not hasattr(model, "base_model_prefix"):
        return set()
    unpooled = (name for name, module in model.named_modules() if getattr(module, _POOLER, model) is None)
    return {f"{name}." if name else "" for name in unpooled}


def _close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first.detach().cpu().double(), second.detach().cpu().double(), rtol=1e-2)
