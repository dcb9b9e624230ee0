"""Taggers: one true class at each position of a sequence."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.tasks.language import LanguageModel
from trak_cli.tasks.task import field
from trak_cli.tasks.tokens import call


class TokenClassification(LanguageModel):
    """f = Σ_t log(p_t / (1 − p_t)) over the labelled positions, q = the mean over them of 1 − p_t, loss = their cross entropy.

    The model returns logits (B, T, C), or an object with the attribute ``logits``. A sample without any label is refused.

    Args:
        label: the labels in the batch, (B, T), integers in [0, C), −100 at positions that do not count.
        inputs: the model's input in the batch; null: every other part of the batch, a mapping, is a keyword argument of the
            model.
    """

    label_kind, label_remedy = "a class", "correct the label, or load a model with more classes"

    def __init__(self, label: int | str = "labels", inputs: int | str | None = None) -> None:
        super().__init__(str(label))
        self._key, self.inputs = label, inputs

    def labels(self, batch: Any) -> Any:
        """The labels of a batch."""
        return field(batch, self._key, ("inputs", "label"))

    def predicted(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The logits and labels at each position."""
        if self.inputs is None:
            return call(model, batch, without=(self.label,)), self.labels(batch)
        result = model(field(batch, self.inputs, ("inputs", "label")))
        logits = getattr(result, "logits", result)
        if not isinstance(logits, Tensor):
            remedy = "return the logits from the model, or an object with logits"
            raise InputError(Problem("model output", type(result).__name__, "a tensor, or an object with logits", remedy))
        return logits, self.labels(batch)
