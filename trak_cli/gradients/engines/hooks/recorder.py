"""Records, by hooks, the inputs of chosen modules in one forward pass and the gradients at their outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from trak_cli.errors import InputError, Problem
from trak_cli.gradients.engines.hooks.dynamic_shapes import Watch

#: One call of a module: the module's name, and how many calls of it came before.
Site = tuple[str, int]


class NotSeparableError(InputError):
    """The gradients of the samples cannot be separated at this call, so its parameters need another strategy."""

    def __init__(self, site: Site, reason: str) -> None:
        self.site = site
        where = f"model, module {site[0] or '(the model itself)'}"
        expected = "a module that treats the samples of a batch independently"
        super().__init__(Problem(where, reason, expected, "run again with gradients=vmap or gradients=loop"))


@dataclass
class Call:
    """One recorded call.

    Attributes:
        inputs: the leaves of (args, kwargs), tensors detached.
        structure: how the leaves are assembled to (args, kwargs).
        shapes: the shape of each output leaf; None for a leaf that is no floating tensor.
        gradients: ∂(Σ_b f_b)/∂(output leaf), filled in by :meth:`Recorder.backward`; None where there is none.
        weighted: ∂(Σ_b w_b f_b)/∂(output leaf), w from :func:`weights`; only for calls in ``weigh``.
        after_cut, after_read, after_moved: what a :class:`Watch` had recorded before the call.
    """

    site: Site
    module: nn.Module
    inputs: list[Any]
    structure: TreeSpec
    shapes: list[torch.Size | None]
    gradients: list[Tensor | None]
    weighted: list[Tensor | None] = field(default_factory=list)
    after_cut: bool = False
    after_read: bool = False
    after_moved: bool = False
    _edges: dict[int, GradientEdge] = field(default_factory=dict)
    _versions: list[int] = field(default_factory=list)

    def check_unchanged(self) -> None:
        """Refuse inputs that the model has overwritten since the call.

        Raises:
            NotSeparableError: an input was modified in place.
        """
        tensors = [leaf for leaf in self.inputs if isinstance(leaf, Tensor)]
        if [tensor._version for tensor in tensors] != self._versions:
            raise NotSeparableError(self.site, "its input is overwritten in place")


class Recorder:
    """Records every call of some modules while it is entered.

    Args:
        modules: name -> module to watch.
        size: B.
        expand: calls whose output is shared by all samples (position embeddings, for example). The output is repeated for each
            sample, so that each copy receives the gradient of one sample.
        weigh: calls for whose outputs a second backward pass computes weighted gradients.
        watch: records operations of the model meanwhile.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        size: int,
        expand: Collection[Site] = (),
        weigh: Collection[Site] = (),
        watch: Watch | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self._modules = modules
        self._size = size
        self._expand = frozenset(expand)
        self._weigh = frozenset(weigh)
        self._watch = watch
        self._counts: Counter[str] = Counter()
        self._handles: list[Any] = []

    def __enter__(self) -> Recorder:
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(partial(self._record, name), with_kwargs=True))
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _record(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        site = (name, self._counts[name])
        self._counts[name] += 1
        inputs, structure = tree_flatten((args, kwargs))
        outputs, output_structure = tree_flatten(output)
        inputs = [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in inputs]
        call = Call(site, module, inputs, structure, [_shape(leaf) for leaf in outputs], [None] * len(outputs))
        call._versions = [leaf._version for leaf in inputs if isinstance(leaf, Tensor)]
        if self._watch is not None:
            call.after_cut, call.after_read, call.after_moved = self._watch.cut, self._watch.read, self._watch.moved
        self.calls.append(call)
        followed = [_shape(leaf) is not None and leaf.requires_grad for leaf in outputs]
        if site in self._expand:  # an output without a gradient has nothing to separate
            outputs = [repeated(leaf, self._size) if follow else leaf for leaf, follow in zip(outputs, followed, strict=True)]
            output = tree_unflatten(outputs, output_structure)
        elif sum(followed) > 1:  # one output may be computed from another: the gradient at a view is that of its uses outside
            outputs = [leaf.view_as(leaf) if follow else leaf for leaf, follow in zip(outputs, followed, strict=True)]
            output = tree_unflatten(outputs, output_structure)
        for position, (leaf, follow) in enumerate(zip(outputs, followed, strict=True)):
            if follow and leaf.grad_fn is not None:
                call._edges[position] = get_gradient_edge(leaf)
        return output

    def nodes(self, modules: Collection[str]) -> set[Node]:
        """The autograd nodes of the outputs of these modules' recorded calls; to be called before :meth:`backward`."""
        return {edge.node for call in self.calls if call.site[0] in modules for edge in call._edges.values()}

    def backward(self, outputs: Tensor, unused: Mapping[str, Tensor]) -> None:
        """Fill in the gradients of Σ outputs, (B,), at every recorded output.

        Args:
            unused: parameters on which no output is expected to depend.

        Raises:
            NotSeparableError: an output depends on one of them.
        """
        places = [(call, position) for call in self.calls for position in call._edges]
        if not (places or unused) or not outputs.requires_grad:
            return
        wanted: list[Any] = [*(call._edges[position] for call, position in places), *unused.values()]
        weigh = [(call, position) for call, position in places if call.site in self._weigh]
        gradients = torch.autograd.grad(outputs.sum(), wanted, allow_unused=True, retain_graph=bool(weigh))
        if weigh:
            edges: list[Any] = [call._edges[position] for call, position in weigh]
            weighted = torch.autograd.grad((outputs * weights(outputs)).sum(), edges, allow_unused=True)
            for (call, position), gradient in zip(weigh, weighted, strict=True):
                call.weighted = call.weighted or [None] * len(call.shapes)
                call.weighted[position] = gradient
        for (call, position), gradient in zip(places, gradients, strict=False):
            call.gradients[position] = gradient
            call._edges.pop(position)
        for name, gradient in zip(unused, gradients[len(places) :], strict=True):
            if gradient is not None:
                raise NotSeparableError((name.rpartition(".")[0], 0), f"{name} is used, which the first samples did not use")


def weights(like: Tensor) -> Tensor:
    """(B,) signed powers of two, which multiply gradients without rounding; eight consecutive samples have different ones."""
    cycle = torch.tensor([1.0, -2.0, 4.0, -8.0, -1.0, 2.0, -4.0, 8.0], device=like.device, dtype=like.dtype)
    return cycle.repeat(-(-len(like) // len(cycle)))[: len(like)]


def repeated(shared: Tensor, size: int) -> Tensor:
    """A tensor that all samples share, repeated for each: (1, …) or (…) to (size, …); (1,) counts as a vector, to (size, 1)."""
    if shared.dim() > 1 and shared.shape[0] == 1:
        return shared.expand(size, *shared.shape[1:])
    return shared.unsqueeze(0).expand(size, *shared.shape)


def _shape(leaf: Any) -> torch.Size | None:
    return leaf.shape if isinstance(leaf, Tensor) and leaf.is_floating_point() else None
