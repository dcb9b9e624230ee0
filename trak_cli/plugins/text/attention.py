"""Scaled dot-product attention whose mask is always written out, so that every gradient engine takes the model.

Transformers leaves the mask away where it turns out, by looking at its values, to hide nothing. vmap cannot look at values;
and a sample would take another path through the kernel beside a longer neighbour than alone.
"""

from __future__ import annotations

from typing import Any

from trak_cli.plugins.optional import needed

#: The name under which transformers knows this attention.
FULL_MASK = "sdpa_full_mask"


def register() -> str:
    """Make the attention known to transformers; returns its name."""
    modeling = needed("transformers.modeling_utils", "text", "model")
    masking = needed("transformers.masking_utils", "text", "model")
    if FULL_MASK not in modeling.ALL_ATTENTION_FUNCTIONS:
        modeling.ALL_ATTENTION_FUNCTIONS.register(FULL_MASK, modeling.ALL_ATTENTION_FUNCTIONS["sdpa"])

        def full_mask(*args: Any, **kwargs: Any) -> Any:
            shortcuts = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
            return masking.sdpa_mask(*args, **{**kwargs, **shortcuts})

        masking.ALL_MASK_ATTENTION_FUNCTIONS.register(FULL_MASK, full_mask)
    return FULL_MASK
