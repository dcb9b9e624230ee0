"""Classifiers of text: batches are mappings of the model's keyword arguments."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from trak_cli.tasks.classification import Classification
from trak_cli.tasks.tokens import call, check_tokens


class TextClassification(Classification):
    """One true class of a text: f = log(p / (1 − p)), q = 1 − p, loss = cross entropy.

    A batch is a mapping: ``labels`` (B,) and the keyword arguments of the model, such as ``input_ids``, ``attention_mask`` and
    ``token_type_ids``, each (B, T). The model returns logits (B, C), or an object with the attribute ``logits``.
    """

    def __init__(self, label: str = "labels") -> None:
        super().__init__(label=label)

    def logits(self, model: nn.Module, batch: Any) -> Tensor:
        """(B, C)."""
        return call(model, batch, without=(str(self.label),))

    def validate(self, model: nn.Module, batch: Any) -> None:
        """Labels must be in [0, C), the model must know all tokens, and no sample may exceed the model's positions.

        Raises:
            SampleError: for the first sample that is refused.
            InputError: labels or logits of the wrong shape or dtype.
        """
        check_tokens(model, batch)
        super().validate(model, batch)
