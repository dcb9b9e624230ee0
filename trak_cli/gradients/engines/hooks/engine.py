"""The engine: one ordinary forward and backward pass, then per-sample gradients layer by layer, as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size
from trak_cli.errors import InputError
from trak_cli.gradients.contract import ModelOutput, PerSample
from trak_cli.gradients.engines.hooks.batch_dims import Axes, Survey, survey
from trak_cli.gradients.engines.hooks.factors import factors_of
from trak_cli.gradients.engines.hooks.graph_coverage import reached
from trak_cli.gradients.engines.hooks.layers import rule_of
from trak_cli.gradients.engines.hooks.recorder import Call, NotSeparableError, Recorder, repeated, weights
from trak_cli.gradients.engines.hooks.strategies import LOOP, UNUSED, VMAP, Routes, first_routes, owners
from trak_cli.gradients.engines.hooks.vmap_submodule import enclosed
from trak_cli.gradients.engines.vmap import VmapEngine
from trak_cli.gradients.loop import LoopEngine
from trak_cli.gradients.numerics import computing, exact
from trak_cli.gradients.parameters import only
from trak_cli.gradients.refusals import checked_vector, first_line, is_out_of_memory, out_of_memory
from trak_cli.gradients.transforms.autocast import Autocast
from trak_cli.types import AnyBlock, Block


class HooksEngine:
    """Per-sample gradients from what flows through the layers of the model.

    Memory: activations of the whole microbatch and the gradients at the outputs of its layers; of the per-sample
    gradients a piece at a time. A parameter used in several places comes in as many blocks, which add up.

    Args:
        routes: what :func:`find_routes` found. None: the first ways that come to mind,
            which nothing has checked.
        factored: parameters whose gradients come as factors where a layer has them (:class:`FactorBlock`).
    """

    name = "hooks"

    def __init__(
        self,
        model: nn.Module,
        task: ModelOutput,
        parameters: Mapping[str, Tensor],
        routes: Routes | None = None,
        factored: Collection[str] = (),
    ) -> None:
        self._model = model
        self._task = task
        self._parameters = dict(parameters)
        self._factored = frozenset(factored)
        self.routes = dict(first_routes(model, parameters) if routes is None else routes)
        modules = dict(model.named_modules())
        self._by_layer: dict[str, dict[str, str]] = {}  # module -> its name of a parameter -> canonical name
        self._by_module: dict[str, dict[str, str]] = {}  # module -> canonical name -> name inside the module
        for name, holders in owners(model, parameters).items():
            route = self.routes.get(name)
            if route is None:
                for owner in holders:
                    self._by_layer.setdefault(owner.module, {})[owner.local] = name
            elif not route.startswith(":"):
                inside = dict(modules[route].named_parameters(remove_duplicate=False))
                local = next(local for local, one in inside.items() if one is parameters[name])
                self._by_module.setdefault(route, {})[name] = local
        self._watched = {name: modules[name] for name in {**self._by_layer, **self._by_module}}
        self._survey: Survey | None = None

    def per_sample(self, batch: Any) -> PerSample:
        """See :class:`Engine`."""
        if self._model.training:
            raise RuntimeError("the model is in training mode; engines need evaluation mode")
        size = batch_size(batch)
        try:
            with exact():
                return self._one_pass(batch, size, _raise)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise out_of_memory(size, error) from error
            raise

    def passes(self, name: str, module: str) -> bool:
        """Whether the gradient of a parameter is computed from what flows through ``module`` (or by that route)."""
        route = self.routes.get(name)
        return name in self._by_layer.get(module, {}).values() if route is None else route == module

    def attempt(self, batch: Any, refuse: Callable[[NotSeparableError], None]) -> PerSample:
        """Like :meth:`per_sample`, but a site that does not separate is told to ``refuse`` and left out."""
        return self._one_pass(batch, batch_size(batch), refuse)

    def escaping(self, batch: Any) -> set[str]:
        """The parameters that outputs depend on by a way around the calls that their gradients would be computed from.

        No number tells: where a gate is closed, what is missed is zero.
        """
        with exact(), only(self._model, self._followed()), torch.enable_grad():
            return self._escaping(*self._forward(batch, batch_size(batch)))

    def _escaping(self, outputs: Tensor, recorder: Recorder) -> set[str]:
        followed = self._followed()
        through: dict[frozenset[str], list[str]] = {}  # modules -> the parameters that are to be reached through them alone
        for name, holders in owners(self._model, followed).items():
            route = self.routes.get(name)
            if route != UNUSED:
                modules = {route} if route is not None else {owner.module for owner in holders}
                through.setdefault(frozenset(modules), []).append(name)
        escaping: set[str] = set()
        for some, names in through.items():
            leaves = reached(outputs, recorder.nodes(some))
            escaping |= {name for name in names if id(followed[name]) in leaves}
        return escaping

    def _followed(self) -> dict[str, Tensor]:
        """The parameters whose gradients are computed from the pass that is recorded."""
        return {name: one for name, one in self._parameters.items() if self.routes.get(name) not in (VMAP, LOOP)}

    def _forward(self, batch: Any, size: int) -> tuple[Tensor, Recorder]:
        if self._survey is None:
            self._survey = survey(self._model, self._task, batch, self._watched)
        with Recorder(self._watched, size, self._survey.expand, self._survey.doubtful) as recorder:
            return checked_vector(self._task.output(self._model, batch), size, "output"), recorder

    def _one_pass(self, batch: Any, size: int, refuse: Callable[[NotSeparableError], None]) -> PerSample:
        followed, begun = self._followed(), self._survey is not None
        with only(self._model, followed), torch.enable_grad():
            outputs, recorder = self._forward(batch, size)
            for name in () if begun else self._escaping(outputs, recorder):  # ways found under another checkpoint, perhaps
                where = self.routes.get(name, name.rpartition(".")[0])
                refuse(NotSeparableError((where, 0), f"a use of {name} beside it, as was not found with the first samples"))
            recorder.backward(outputs, {name: one for name, one in followed.items() if self.routes.get(name) == UNUSED})
        outputs = outputs.detach()
        with torch.no_grad():
            ratio = self._task.out_to_loss_grad(self._model, batch, outputs)
        ratio = checked_vector(ratio, size, "out_to_loss_grad").detach()
        return PerSample(outputs, ratio, self._blocks(recorder.calls, batch, size, refuse))

    def _blocks(
        self, calls: list[Call], batch: Any, size: int, refuse: Callable[[NotSeparableError], None]
    ) -> Iterator[AnyBlock]:
        first, parameter = next(iter(self._parameters.items()))
        yield Block(first, parameter.new_zeros(size, 0))  # so that something comes even where no output reaches a layer
        while calls:
            call = calls.pop()  # the last layer first: what it holds is let go
            try:
                yield from computing(self._of_call(call, size))
            except NotSeparableError as error:
                refuse(error)
            except RuntimeError as error:  # a use of a layer that its formula does not know
                if is_out_of_memory(error):
                    raise
                refuse(NotSeparableError(call.site, first_line(error)))
        for route, engine in ((VMAP, VmapEngine), (LOOP, LoopEngine)):
            rest = {name: one for name, one in self._parameters.items() if self.routes.get(name) == route}
            if not rest:
                continue
            try:
                yield from engine(self._model, self._task, rest).per_sample(batch).blocks
            except InputError as error:
                refuse(NotSeparableError((route, 0), "; ".join(problem.found for problem in error.problems)))

    def _of_call(self, call: Call, size: int) -> Iterator[AnyBlock]:
        """The blocks of one call."""
        assert self._survey is not None
        if all(gradient is None for gradient in call.gradients):
            return
        axes = self._survey.axes.get(call.site)
        if axes is None or axes.unclear:
            raise NotSeparableError(call.site, "it is not clear which axis counts samples")
        call.check_unchanged()
        _check_shares(call, axes, size)
        module = call.site[0]
        if module in self._by_module:
            yield from enclosed(call, axes, self._by_module[module], size, isinstance(self._task, Autocast))
        names = self._by_layer.get(module, {})
        rule = rule_of(call.module) if names else None
        if rule is None:
            return
        dtype = next(call.module.parameters(recurse=False)).dtype
        x, g = _batch_first(call, axes, size, dtype)
        factors = factors_of(call.module)
        if factors is not None and names.get("weight") in self._factored:
            yield from factors(call.module, x, g, names["weight"])
            names = {local: name for local, name in names.items() if local != "weight"}
        yield from rule(call.module, x, g, names)


def _raise(error: NotSeparableError) -> None:
    raise error


def _batch_first(call: Call, axes: Axes, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Input and output gradient of a layer with one input and one output, as its rule takes them: (B, c, …)."""
    tensors = [place for place, leaf in enumerate(call.inputs) if isinstance(leaf, Tensor)]
    if len(tensors) != 1 or len(call.gradients) != 1:
        raise NotSeparableError(call.site, f"{len(tensors)} inputs and {len(call.gradients)} outputs, not one of each")
    x, g = call.inputs[tensors[0]], call.gradients[0]
    assert g is not None
    x_axis, g_axis = axes.inputs[tensors[0]], axes.outputs[0]
    if (x_axis is None) != (g_axis is None):
        raise NotSeparableError(call.site, "an output that grows with the batch and an input that does not, or the reverse")
    if x_axis is None or g_axis is None:
        x = repeated(x, size).unsqueeze(1)
        g = g.unsqueeze(1)
        if len(x) != len(g):
            raise NotSeparableError(call.site, "what all samples share is not repeated for each")
    else:
        if x_axis != g_axis or (x_axis.dim > 0 and isinstance(call.module, _CHANNELS_FOLLOW)):
            raise NotSeparableError(call.site, "samples lie along another axis than this layer expects")
        x, g = (_split(call, one.movedim(x_axis.dim, 0), x_axis.packed, size) for one in (x, g))
    return x.to(dtype) if x.is_floating_point() else x, g.to(dtype)


def _check_shares(call: Call, axes: Axes, size: int) -> None:
    """Refuse a call whose samples do not have equal shares of its entries, in their order, as far as gradients reach.

    The gradient at an entry grows by the weight of its sample: that tells whose it is.

    Raises:
        NotSeparableError: an entry is another sample's than the equal shares say.
    """
    for gradient, weighted, axis in zip(call.gradients, call.weighted, axes.outputs, strict=False):
        if gradient is None or weighted is None or axis is None:
            continue
        one, other = (_split(call, each.movedim(axis.dim, 0), axis.packed, size).flatten(2) for each in (gradient, weighted))
        expected = one * weights(one).reshape(-1, 1, 1)
        off, length = ((each.float()).norm(dim=2) for each in (other - expected, expected))
        if bool((off > 0.25 * length + _NOTHING * length.max()).any()):
            raise NotSeparableError(call.site, "samples with different numbers of entries along a flattened axis")


#: Gradients that are smaller than this share of the largest are rounding.
_NOTHING = 1e-5

#: Layers that fix the place of their channels: samples must come first.
_CHANNELS_FOLLOW = (nn.modules.conv._ConvNd, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def _split(call: Call, tensor: Tensor, packed: bool, size: int) -> Tensor:
    """(B · c, …) to (B, c, …)."""
    if tensor.shape[0] % size or (not packed and tensor.shape[0] != size):
        raise NotSeparableError(call.site, f"{tensor.shape[0]} entries for {size} samples")
    return tensor.reshape(size, tensor.shape[0] // size, *tensor.shape[1:])
