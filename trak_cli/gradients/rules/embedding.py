"""Embeddings: a sample's gradient has non-zero rows only for the entries that it looks up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trak_cli.gradients.rules.registry import Blocks, Names, register_gradient_rule
from trak_cli.types import RowBlock


def _plain(module: nn.Module) -> bool:
    """Whether the layer neither renormalises its weight nor scales its gradient."""
    return isinstance(module, nn.Embedding) and module.max_norm is None and not module.scale_grad_by_freq


@register_gradient_rule(nn.Embedding, where=_plain)
def embedding(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Row v of the weight: Σ of g over the positions where x = v. x (B, c, …) integers, g (B, c, …, width)."""
    assert isinstance(module, nn.Embedding)
    batch, width = len(x), g.shape[-1]
    ids, g = x.reshape(batch, -1), g.reshape(-1, width)
    keys = ids + module.num_embeddings * torch.arange(batch, device=ids.device)[:, None]
    unique, place = torch.unique(keys.flatten(), return_inverse=True)
    values = g.new_zeros(len(unique), width).index_add_(0, place, g)
    sample, row = unique // module.num_embeddings, unique % module.num_embeddings
    if module.padding_idx is not None:
        kept = row != module.padding_idx
        sample, row, values = sample[kept], row[kept], values[kept]
    yield RowBlock(names["weight"], batch, sample, row, values)
