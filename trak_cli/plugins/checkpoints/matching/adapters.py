"""Models with a peft adapter, whose checkpoint is the adapter alone, under the names that peft writes."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn


def adapter_names(model: nn.Module) -> dict[str, str] | None:
    """Name in an adapter file -> name in the model's state_dict; None for a model without an adapter.

    A peft model is recognised by the name of its class, so that other models do not need peft.
    """
    if not any(f"{kind.__module__}.{kind.__name__}" == "peft.peft_model.PeftModel" for kind in type(model).__mro__):
        return None
    peft: Any = importlib.import_module("peft")
    state: dict[str, Any] = model.state_dict(keep_vars=True)
    names = {id(tensor): name for name, tensor in state.items()}
    written = peft.get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
    return {name: names[id(tensor)] for name, tensor in written.items()}
