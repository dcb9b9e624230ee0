"""The margin log(p / (1 − p)) of the true class, computed from logits without forming p."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(values: Tensor) -> Tensor:
    """The values in float32, or float64 if they are float64."""
    return values if values.dtype == torch.float64 else values.float()


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of the true class: logit_y − logsumexp of the other logits (TRAK, section 3.3).

    With softmax probabilities this equals log(p / (1 − p)), but without loss of precision for p near 0 or 1. float16 and
    bfloat16 logits are widened to float32 first. Safe under vmap: nothing is indexed by a tensor.

    Args:
        logits: (…, C), C ≥ 2, any floating dtype.
        labels: (…), any integer dtype, in [0, C).

    Returns:
        (…), float64 for float64 logits, else float32.
    """
    wide = widened(logits)
    index = labels.long().unsqueeze(-1)
    right = torch.arange(wide.shape[-1], device=wide.device) == index
    others = wide.masked_fill(right, -torch.inf)
    return wide.gather(-1, index).squeeze(-1) - torch.logsumexp(others, dim=-1)
