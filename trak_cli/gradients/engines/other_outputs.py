"""Gradients under one set of weights, with the outputs of another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import one_sample
from trak_cli.gradients.contract import Engine, ModelOutput, PerSample
from trak_cli.gradients.loop import one_microbatch
from trak_cli.gradients.refusals import checked_vector


class OtherOutputs:
    """An engine whose gradients are those of another engine, and whose f and q are those of ``model``: a forward pass more."""

    def __init__(self, engine: Engine, model: nn.Module, function: ModelOutput) -> None:
        self.name = engine.name
        self._engine = engine
        self._model = model
        self._function = function

    def per_sample(self, batch: Any) -> PerSample:
        """See :class:`~trak_cli.gradients.contract.Engine`. The logits of the engine are left out: they are not those of f."""
        with one_microbatch(self._model, batch) as size, torch.no_grad():
            parts = [one_sample(batch, i) for i in range(size)] if self.name == "loop" else [batch]
            pairs = [self._of(part, size // len(parts)) for part in parts]
        outputs, ratios = (torch.cat(values) for values in zip(*pairs, strict=True))
        return replace(self._engine.per_sample(batch), outputs=outputs, out_to_loss=ratios, logits=None)

    def _of(self, batch: Any, size: int) -> tuple[Tensor, Tensor]:
        """f and q, (size,) each."""
        outputs = checked_vector(self._function.output(self._model, batch), size, "output")
        return outputs, checked_vector(self._function.out_to_loss_grad(self._model, batch, outputs), size, "out_to_loss_grad")
