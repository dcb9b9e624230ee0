"""The Task: the one class that a user writes to tell the program what the output f of a model is.

Nothing else in the program knows what kind of model it serves. Every engine calls the same methods: the loop with
batches of one sample, vmap with batches of one sample whose tensors stand for a whole microbatch. So a task must not
branch on the values of tensors, call ``.item()``, or index with a tensor of labels (use ``gather`` or ``where``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem


class SampleError(InputError):
    """One sample of a batch that the task cannot take; raised by :meth:`Task.validate`.

    A task knows a sample only by its position in the batch. Whoever made the batch knows its name, and re-raises
    ``error.renamed("train sample 1042")``.
    """

    def __init__(self, position: int, found: str, expected: str, remedy: str) -> None:
        self.position = position
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(Problem(f"sample {position} of the batch", found, expected, remedy))

    def renamed(self, where: str) -> InputError:
        """The same problem, with the sample called ``where``."""
        return InputError(Problem(where, self.found, self.expected, self.remedy))


class Task(ABC):
    """What the program attributes: the model output function f(z; θ) (TRAK, section 2).

    A subclass defines :meth:`output`. The other methods have defaults that are right when f is the log-odds of the
    right answer, log(p / (1 − p)), as in the paper's section 3.
    """

    @abstractmethod
    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """f of every sample of ``batch``, as a floating tensor of shape (B,), differentiable in the parameters.

        f of one sample may depend on that sample and on the parameters only, never on the rest of the batch.
        """

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        """q = −∂ℓ/∂f of every sample, shape (B,); ``output`` is what :meth:`output` gave, shape (B,), detached.

        Default: sigmoid(−f), which is 1 − p for log-odds f (TRAK, section 3.2, the matrix Q).
        """
        del model, batch
        return torch.sigmoid(-output)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean loss of ``batch``, a scalar: used to train models, never to attribute.

        Default: mean softplus(−f), which is the cross entropy −log p when f is the log-odds of the right answer.
        """
        return nn.functional.softplus(-self.output(model, batch)).mean()

    def terms(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Optional, where f is a sum over parts of a sample, such as tokens: the terms (B, T), and which exist, (B, T) bool.

        :meth:`output` must be the sum of the terms that exist. The Gram matrix is then a sum over single terms, which is a
        better curvature than one over whole samples (docs/method.md).
        """
        raise NotImplementedError

    def has_terms(self) -> bool:
        """Whether :meth:`terms` is there. Default: whether the class defines it."""
        return type(self).terms is not Task.terms

    def validate(self, model: nn.Module, batch: Any) -> None:
        """Refuse a batch that holds a sample the task cannot take, such as a label out of range; default: take all.

        Called once for each microbatch, outside vmap, so it may look at values.

        Raises:
            SampleError: for the first such sample.
        """
        del model, batch

    def context_rows(self, rows: int) -> Sequence[int]:
        """Which of the ``rows`` training samples the task must see under a checkpoint before it can tell outputs.

        For outputs that compare a sample with fixed others. Must not depend on anything but the task's arguments and
        ``rows``. Default: none, and then neither :meth:`context` nor :meth:`bind` is called.
        """
        del rows
        return ()

    def context(self, model: nn.Module, batches: Iterable[Any]) -> Mapping[str, Tensor]:
        """What the task keeps of those samples under this model, by name; ``batches`` hold them in order, on its device.

        Called once for each checkpoint, without gradients. The result is stored, float32 or integers, and every worker
        and every restart is given the stored one by :meth:`bind`.
        """
        del model, batches
        return {}

    def bind(self, context: Mapping[str, Tensor]) -> None:
        """Take the context of the checkpoint whose outputs are asked for from now on; tensors on the model's device."""
        del context


def field(batch: Any, key: int | str) -> Any:
    """The part of a batch that a task reads: ``batch[key]`` of a tuple, a list or a mapping.

    Raises:
        InputError: the batch has no such part.
    """
    held = ""
    if isinstance(batch, Mapping):
        if key in batch:
            return batch[key]
        held = f"a mapping with the keys {', '.join(map(repr, batch))}"
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        if isinstance(key, int) and -len(batch) <= key < len(batch):
            return batch[key]
        held = f"a sequence of {len(batch)} parts"
    else:
        held = f"one {type(batch).__name__}"
    raise InputError(
        Problem("batch", held, f"a batch with the part {key!r}", "give the task's arguments the names of the parts to read")
    )
