"""What tells an object in memory from another one, as JSON values for fingerprints.

Like a configuration, it names classes and functions and holds their arguments; their code is compared by its results.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from torch import Tensor, nn

from trak_cli.plugins.checkpoints.state import saved_names
from trak_cli.plugins.samples import sample_id
from trak_cli.types import Json

#: The address of an object in its text, which differs from process to process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def name_of(value: Any) -> str:
    """``module.Name`` of a class or function, or of the class of another object."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def identity_of(value: Any) -> Any:
    """The identity of an attribute: plain values, digests of arrays, names of functions and classes, the text of others."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): identity_of(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity_of(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, map(identity_of, value)))
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return f"array {sample_id(value):016x}"
    if isinstance(value, functools.partial):
        return {"partial": name_of(value.func), "args": identity_of(value.args), "keywords": identity_of(value.keywords)}
    return name_of(value) if hasattr(value, "__qualname__") else _ADDRESS.sub("", repr(value))


def object_identity(value: Any) -> Json:
    """The identity of a task or a collate function: its class or its own name, and its attributes."""
    if isinstance(value, functools.partial):
        return {"kind": name_of(value), "call": identity_of(value)}
    named = hasattr(value, "__qualname__")
    attributes = {} if named else getattr(value, "__dict__", {})
    return {"kind": name_of(value), **({"attributes": identity_of(attributes)} if attributes else {})}


def model_identity(model: nn.Module) -> Json:
    """The identity of a model without the weights that its checkpoints hold: class, structure, and all other tensors."""
    saved = saved_names(model)
    tensors = chain(model.named_parameters(), model.named_buffers())
    other = [f"{name} {sample_id(tensor):016x}" for name, tensor in tensors if name not in saved]
    return {
        "kind": name_of(model),
        "structure": _sha256(_ADDRESS.sub("", repr(model))),
        **({"other_tensors": _sha256("\n".join(other))} if other else {}),
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
