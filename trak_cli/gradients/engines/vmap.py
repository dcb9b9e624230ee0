"""Per-sample gradients of a whole microbatch at once: torch.func.vmap over grad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from trak_cli.autograd_settings import differentiable
from trak_cli.batches import batch_size, leaves, map_leaves, one_sample, refuse_joined
from trak_cli.gradients.contract import ModelOutput, PerSample, draining
from trak_cli.gradients.loop import LoopEngine
from trak_cli.gradients.numerics import batchable, exact
from trak_cli.gradients.predicted import output_with_logits
from trak_cli.gradients.refusals import checked_vector, not_for_vmap, out_of_memory, random_output
from trak_cli.gradients.transforms.autocast import Autocast
from trak_cli.user_errors import first_line, is_out_of_memory


class _Bound(nn.Module):
    """A model bound to a task, so that functional_call covers every method of the model that the task may use."""

    def __init__(self, model: nn.Module, task: ModelOutput) -> None:
        super().__init__()
        self.model = model
        self.task = task

    def forward(self, batch: Any) -> tuple[Tensor, ...]:
        """(f, q), each (1,), of a batch of one, and the logits (1, C) of its classes, if the task has classes."""
        found, logits = output_with_logits(self.task, self.model, batch)
        output = checked_vector(found, 1, "output")
        with torch.no_grad():
            ratio = self.task.out_to_loss_grad(self.model, batch, output.detach())
        return output, checked_vector(ratio, 1, "out_to_loss_grad"), *(() if logits is None else (logits,))


class VmapEngine:
    """One vectorised pass for the microbatch; every tensor of a batch must have one entry per sample.

    Memory: activations and gradients of the complete microbatch at once; blocks are freed as they are consumed.
    """

    name = "vmap"

    def __init__(self, model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor]) -> None:
        self._model = model
        self._task = task
        self._bound = _Bound(model, task)
        self._parameters = dict(parameters)

    def per_sample(self, batch: Any) -> PerSample:
        """See :class:`~trak_cli.gradients.contract.Engine`."""
        if self._model.training:
            raise RuntimeError("the model is in training mode; engines need evaluation mode")
        refuse_joined(batch, self.name)
        size = batch_size(batch)
        if isinstance(self._task, Autocast):
            raise not_for_vmap("autocast, which vmap does not carry into the backward pass", where="gradients.autocast")
        for name, leaf in leaves(batch):
            if not isinstance(leaf, Tensor):
                raise not_for_vmap(f"{type(leaf).__name__} instead of a tensor", where=name)
        try:
            with exact(), batchable(self._model), differentiable(self._model), torch.no_grad():
                gradients, (outputs, ratios, *logits) = self._vectorised(batch)
        except RuntimeError as error:
            raise self._explained(error, batch, size) from error
        return PerSample(outputs, ratios, draining(gradients), *logits)

    def _vectorised(self, batch: Any) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        tensors = tuple(leaf for _, leaf in leaves(batch))

        def of_one(parameters: dict[str, Tensor], sample: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            rest = iter(sample)
            single = map_leaves(lambda _: next(rest).unsqueeze(0), batch)
            weights = {f"model.{name}": value for name, value in parameters.items()}
            found = functional_call(self._bound, weights, (single,))
            return found[0].squeeze(0), tuple(part.detach().squeeze(0) for part in found)

        parameters = {name: parameter.detach() for name, parameter in self._parameters.items()}
        each = vmap(grad(of_one, has_aux=True), in_dims=(None, 0), randomness="error")
        gradients, found = each(parameters, tensors)
        return dict(gradients), found

    def _explained(self, error: RuntimeError, batch: Any, size: int) -> Exception:
        """What to raise for an error inside vmap: the model's own error when it fails without vmap as well."""
        if is_out_of_memory(error):
            return out_of_memory(size, error)
        if "randomness" in str(error):
            return random_output("a random operation although the model is in evaluation mode")
        LoopEngine(self._model, self._task, self._parameters).per_sample(one_sample(batch, 0))
        return not_for_vmap(f"an operation that vmap refuses: {first_line(error)}")
