"""Scaled dot-product attention with an explicit mask, so that every gradient engine supports the model.

Transformers drops a mask whose values hide nothing. vmap cannot inspect values, and a sample would be computed by different
code next to a longer sample than alone.
"""

from __future__ import annotations

from typing import Any

from trak_cli.plugins.optional import needed

#: The name of this attention in transformers.
FULL_MASK = "sdpa_full_mask"


def register() -> str:
    """Register the attention with transformers; returns its name."""
    modeling = needed("transformers.modeling_utils", "text", "model")
    masking = needed("transformers.masking_utils", "text", "model")
    if FULL_MASK not in modeling.ALL_ATTENTION_FUNCTIONS:
        modeling.ALL_ATTENTION_FUNCTIONS.register(FULL_MASK, modeling.ALL_ATTENTION_FUNCTIONS["sdpa"])

        def full_mask(*args: Any, **kwargs: Any) -> Any:
            shortcuts = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
            return masking.sdpa_mask(*args, **{**kwargs, **shortcuts})

        masking.ALL_MASK_ATTENTION_FUNCTIONS.register(FULL_MASK, full_mask)
    return FULL_MASK
