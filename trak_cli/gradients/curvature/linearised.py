"""Products of vectors with the Jacobian of a model's predictions for a batch, J x and Jᵀ v, for several vectors at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp, vmap

from trak_cli.autograd_settings import differentiable
from trak_cli.gradients.numerics import batchable, exact
from trak_cli.gradients.parameters import only


@contextmanager
def _without_fused_layers(model: nn.Module) -> Iterator[None]:
    """Inside, attention and recurrent layers are computed by operations that have a forward-mode derivative."""
    before = torch.backends.mha.get_fastpath_enabled()
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with ExitStack() as stack:
            if recurrent:  # only then: convolutions are faster with it
                with warnings.catch_warnings():  # of settings that PyTorch itself reads
                    warnings.simplefilter("ignore")
                    stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


#: A function of a model and a batch whose result, any shape, is differentiable in the parameters.
Function = Callable[[nn.Module, Any], Tensor]


class _Bound(nn.Module):
    """A model bound to a function, so that functional_call covers every method of the model that the function may use."""

    def __init__(self, model: nn.Module, function: Function) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, batch: Any) -> Tensor:
        return self.function(self.model, batch)


class Jacobian:
    """J of a function of a model, for one batch after another.

    Vectors in the space of the parameters are rows of (R, p) tensors, the coordinates in the order of ``parameters``.

    Args:
        parameters: canonical name -> parameter of ``model``; others are constants.
        scales: (p,) factors of the coordinates: J is then the Jacobian by θ / scales. None for no factors.
        vectorised: all vectors at once, by forward mode under vmap; otherwise one after another, by two backward passes, which
            needs no more than a model that can be differentiated twice.
    """

    def __init__(
        self, model: nn.Module, parameters: Mapping[str, Tensor], scales: Tensor | None = None, vectorised: bool = True
    ) -> None:
        self._model = model
        self._parameters = dict(parameters)
        self._scales = scales
        self.vectorised = vectorised

    def times(self, function: Function, batch: Any, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The values of the function, and J x for every vector x: (R, *shape of the values)."""
        vectors = vectors if self._scales is None else vectors * self._scales
        with exact(), batchable(self._model):
            if not self.vectorised:
                return self._one_by_one(function, batch, vectors)
            with differentiable(self._model), torch.no_grad(), _without_fused_layers(self._model):
                run, weights = self._functional(function, batch)

                def push(tangents: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
                    values, products = jvp(run, (weights,), (tangents,))[:2]
                    return values, products

                out_dims: Any = (None, 0)
                values, products = vmap(push, out_dims=out_dims)(self._split(vectors))
                return values, products

    def transposed(self, function: Function, batch: Any, cotangents: Callable[[Tensor], Tensor]) -> Tensor:
        """Jᵀ v for the vectors v that ``cotangents`` gives for the values: (R, p)."""
        with exact(), batchable(self._model):
            if not self.vectorised:
                return self._scaled(self._pulled_one_by_one(function, batch, cotangents))
            with differentiable(self._model), torch.no_grad(), _without_fused_layers(self._model):
                run, weights = self._functional(function, batch)
                values, pull = vjp(run, weights)[:2]
                (gradients,) = vmap(pull)(cotangents(values))
                return self._scaled(torch.cat([gradient.reshape(len(gradient), -1) for gradient in gradients.values()], 1))

    def _functional(self, function: Function, batch: Any) -> tuple[Callable[[dict[str, Tensor]], Tensor], dict[str, Tensor]]:
        bound = _Bound(self._model, function)
        weights = {name: parameter.detach() for name, parameter in self._parameters.items()}

        def run(values: dict[str, Tensor]) -> Tensor:
            named = {f"model.{name}": value for name, value in values.items()}
            result: Tensor = functional_call(bound, named, (batch,))
            return result

        return run, weights

    def _split(self, vectors: Tensor) -> dict[str, Tensor]:
        sizes = [parameter.numel() for parameter in self._parameters.values()]
        parts = torch.split(vectors, sizes, dim=-1)
        shaped = zip(self._parameters.items(), parts, strict=True)
        return {
            name: part.reshape((*part.shape[:-1], *parameter.shape)).to(parameter.dtype) for (name, parameter), part in shaped
        }

    def _scaled(self, gradients: Tensor) -> Tensor:
        return gradients if self._scales is None else gradients * self._scales

    def _one_by_one(self, function: Function, batch: Any, vectors: Tensor) -> tuple[Tensor, Tensor]:
        parameters = tuple(self._parameters.values())
        with only(self._model, self._parameters), torch.enable_grad():
            values = function(self._model, batch)
            dual = torch.zeros_like(values, requires_grad=True)
            gradients = torch.autograd.grad(values, parameters, dual, create_graph=True, materialize_grads=True)
            products = []
            for vector in vectors:
                tangents = tuple(self._split(vector).values())
                parts = [(gradient * tangent).sum() for gradient, tangent in zip(gradients, tangents, strict=True)]
                (found,) = torch.autograd.grad(torch.stack(parts).sum(), dual, retain_graph=True, materialize_grads=True)
                products.append(found)
        return values.detach(), torch.stack(products)

    def _pulled_one_by_one(self, function: Function, batch: Any, cotangents: Callable[[Tensor], Tensor]) -> Tensor:
        parameters = tuple(self._parameters.values())
        rows = []
        with only(self._model, self._parameters), torch.enable_grad():
            values = function(self._model, batch)
            for cotangent in cotangents(values.detach()):
                found = torch.autograd.grad(values, parameters, cotangent, retain_graph=True, materialize_grads=True)
                rows.append(torch.cat([gradient.flatten() for gradient in found]))
        return torch.stack(rows)
