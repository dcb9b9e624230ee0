"""Which tensors autograd reaches from the outputs by a way around some nodes of its graph."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor
from torch.autograd.graph import Node


def reached(outputs: Tensor, around: Collection[Node]) -> set[int]:
    """The ids of the leaves that autograd gets to from ``outputs`` without passing a node of ``around``."""
    found: set[int] = set()
    if outputs.grad_fn is None:
        return found
    seen, waiting = {outputs.grad_fn, *around}, [outputs.grad_fn]
    if outputs.grad_fn in around:
        return found
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)  # of a node that adds to the gradient of a leaf
        if variable is not None:
            found.add(id(variable))
        for after, _ in node.next_functions:
            if after is not None and after not in seen:
                seen.add(after)
                waiting.append(after)
    return found
