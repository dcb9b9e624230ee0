"""Which tensors the outputs depend on by a path of the autograd graph that avoids given nodes."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor
from torch.autograd.graph import Node


def reached(outputs: Tensor, around: Collection[Node]) -> set[int]:
    """The ids of the leaf tensors that a path from ``outputs`` reaches without passing a node of ``around``."""
    leaves: set[int] = set()
    if outputs.grad_fn is None:
        return leaves
    seen, waiting = {outputs.grad_fn, *around}, [outputs.grad_fn]
    if outputs.grad_fn in around:
        return leaves
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)  # set on a node that accumulates the gradient of a leaf
        if variable is not None:
            leaves.add(id(variable))
        for after, _ in node.next_functions:
            if after is not None and after not in seen:
                seen.add(after)
                waiting.append(after)
    return leaves
