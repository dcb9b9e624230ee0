"""The Task: the class that you write to define the output f of a model.

Everything else in the program is independent of the kind of model. Every engine calls the same methods: the loop with
batches of one sample, vmap with batches of one sample whose tensors represent a whole microbatch. So a task must not
branch on the values of tensors, call ``.item()``, or index with a tensor of labels (use ``gather`` or ``where``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.tasks.quality import Quality


class SampleError(InputError):
    """The task refuses a sample of a batch; raised by :meth:`Task.validate`.

    A task knows the position of a sample in the batch only. The caller knows its name, and raises
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
    """The model output function f(z; θ) that the program attributes (TRAK, section 2).

    A subclass defines :meth:`output`. The defaults of the other methods are correct if f is the log-odds of the true
    class, log(p / (1 − p)), as in section 3 of the paper.
    """

    @abstractmethod
    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """f of every sample of ``batch``, as a floating tensor of shape (B,), differentiable in the parameters.

        f of one sample may depend on that sample and on the parameters only, never on the rest of the batch.
        """

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        """q = −∂ℓ/∂f of every sample, shape (B,); ``output`` is the result of :meth:`output`, (B,), detached.

        Default: sigmoid(−f), which is 1 − p for log-odds f (TRAK, section 3.2, the matrix Q).
        """
        del model, batch
        return torch.sigmoid(-output)

    def losses(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss of every sample of ``batch``, (B,): used for training only.

        Default: softplus(−f), which is the cross entropy −log p if f is the log-odds of the true class.
        """
        return nn.functional.softplus(-self.output(model, batch))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean loss of ``batch``, a scalar: the mean of :meth:`losses`. A task that overrides this needs :meth:`losses` too."""
        return self.losses(model, batch).mean()

    def weighted_loss(self, model: nn.Module, batch: Any, weights: Tensor) -> Tensor:
        """Σ_i w_i ℓ_i / B, a scalar, for the weights (B,) of the samples' losses; for training on weighted samples.

        Override it if a sample also enters the losses of others, so that weight 0 means: as if the sample were not there.
        """
        return weighted_mean(self.losses(model, batch), weights)

    def terms(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Optional, if f is a sum over parts of a sample, such as tokens: the terms (B, T), and their mask, (B, T) bool.

        :meth:`output` must be the sum of the valid terms. The Gram matrix is then a sum over terms, which is a better
        curvature than a sum over samples (docs/method.md).
        """
        raise NotImplementedError

    def has_terms(self) -> bool:
        """Whether the task has terms. Default: whether the class defines :meth:`terms`."""
        return type(self).terms is not Task.terms

    def has_classes(self) -> bool:
        """Whether f is the margin of one label under the logits (B, 1, C) of :meth:`predictions`. Default: no.

        The Gram matrix then also covers the other classes (docs/method.md).
        """
        return False

    def predicts_classes(self) -> bool:
        """Whether :meth:`class_logits` says which class the model predicts. Default: :meth:`has_classes`."""
        return self.has_classes()

    def class_logits(self, model: nn.Module, batch: Any) -> Tensor:
        """The logits (B, C) of all classes of every sample, for the predicted classes that reports show.

        `trak featurize` calls it without gradients if :meth:`predicts_classes`. If it calls the model like :meth:`output` does,
        the model does not run again. Default: the logits of :meth:`predictions`.
        """
        return self.predictions(model, batch)[0][:, 0]

    def predictions(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """What the loss of a sample is a function of, and what is true of it; `trak refine` computes the curvature from it.

        One of three pairs, for B samples:

        - logits (B, T, C) and labels (B, T), int64, −100 where nothing is predicted: the loss is the sum over T of the cross
          entropy. T is 1 for a classifier of whole samples.
        - log-odds of what is true (B, T), and a mask (B, T) bool: the loss is the sum over T of softplus(−log-odds).
        - predictions (B,) and residuals (B,): the loss is ½ residual².

        Default: the terms, else f, as log-odds; if the task has its own :meth:`out_to_loss_grad` and no terms, f and q.
        """
        if self.has_terms():
            return self.terms(model, batch)
        output = self.output(model, batch)
        if type(self).out_to_loss_grad is Task.out_to_loss_grad:
            return output.unsqueeze(1), torch.ones_like(output, dtype=torch.bool).unsqueeze(1)
        return output, self.out_to_loss_grad(model, batch, output.detach())

    def validate(self, model: nn.Module, batch: Any) -> None:
        """Refuse invalid samples, such as a label out of range. Default: accept all.

        Called once for each microbatch, outside vmap, so it may inspect values.

        Raises:
            SampleError: for the first invalid sample.
        """
        del model, batch

    def quality(self, model: nn.Module, batches: Iterable[Any]) -> Quality:
        """How good the model is on the samples of ``batches``; `featurize` and `doctor` print it for a few samples.

        Default: the share of f > 0, where the true class is more likely than not, if f is a log-odds; else the mean of |q|,
        the size of the loss gradient.
        """
        log_odds = type(self).out_to_loss_grad is Task.out_to_loss_grad
        values = []
        for batch in batches:
            output = self.output(model, batch).detach()
            values.append(output > 0 if log_odds else self.out_to_loss_grad(model, batch, output).detach().abs())
        mean = float(torch.cat(values).double().mean())
        return Quality("share of f > 0", mean, 1.0) if log_odds else Quality("mean |q|", mean, 0.0)

    def context_rows(self, rows: int) -> Sequence[int]:
        """Which of the ``rows`` training samples the task needs under a checkpoint before it can compute outputs.

        For outputs that compare a sample with fixed others. Must depend only on the arguments of the task and
        ``rows``. Default: none; then neither :meth:`context` nor :meth:`bind` is called.
        """
        del rows
        return ()

    def context(self, model: nn.Module, batches: Iterable[Any]) -> Mapping[str, Tensor]:
        """Tensors computed from those samples under this model, by name; ``batches`` are in order, on the device.

        Called once for each checkpoint, without gradients. The result (float32 or integers) is stored, and every worker
        gets the stored one through :meth:`bind`.
        """
        del model, batches
        return {}

    def bind(self, context: Mapping[str, Tensor]) -> None:
        """Use this context, of the current checkpoint, in all later outputs; tensors are on the model's device."""
        del context


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Σ_i w_i ℓ_i / B for losses and weights (B,), a scalar.

    Raises:
        InputError: the losses do not have this shape.
    """
    if losses.shape != weights.shape:
        remedy = "let the task's method losses return one loss for each sample of the batch"
        raise InputError(Problem("task.losses", f"shape {tuple(losses.shape)}", f"{tuple(weights.shape)}", remedy))
    return (losses * weights.to(losses.dtype)).mean()


#: The parts of a batch that a model gets: one part, a list in order, or argument names -> parts; None: the whole batch.
Inputs = int | str | Sequence[int | str] | Mapping[str, int | str] | None


def call_model(model: nn.Module, batch: Any, inputs: Inputs, arguments: Sequence[str] = ()) -> Any:
    """The output of the model for the parts of the batch that ``inputs`` names; ``arguments`` as for :func:`field`.

    Raises:
        InputError: the batch has no such part.
    """
    if inputs is None:
        return model(batch)
    if isinstance(inputs, Mapping):
        return model(**{name: field(batch, part, arguments) for name, part in inputs.items()})
    parts = [inputs] if isinstance(inputs, int | str) else inputs
    return model(*(field(batch, part, arguments) for part in parts))


#: Usual names of the part of a batch that holds the labels.
_LABELS = ("label", "labels", "target", "targets", "y", "value", "values", "class", "output", "outputs")


def field(batch: Any, key: int | str, arguments: Sequence[str] = ()) -> Any:
    """The part of a batch that a task reads: ``batch[key]`` of a tuple, a list or a mapping.

    Args:
        arguments: for the message: those of the task that name its parts, the model's input first and the label second.

    Raises:
        InputError: the batch has no such part.
    """
    remedy = "set the arguments of the task to the names of the parts"
    if isinstance(batch, Mapping):
        if key in batch:
            return batch[key]
        held = f"a mapping with the keys {', '.join(map(repr, batch))}"
        if arguments and len(batch) > 1:
            remedy = _named_parts(list(batch), arguments)
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        if isinstance(key, int) and -len(batch) <= key < len(batch):
            return batch[key]
        held = f"a sequence of {len(batch)} parts"
    else:
        held = f"one {type(batch).__name__}"
        remedy = "let the samples be tuples or mappings, such as (input, label)"
    raise InputError(Problem("batch", held, f"a batch with the part {key!r}", remedy))


def _named_parts(keys: list[Any], arguments: Sequence[str]) -> str:
    """The arguments of the task that fit a mapping with these keys, guessed from their names."""
    label = next((key for key in keys if str(key).lower() in _LABELS), keys[-1])
    inputs = [key for key in keys if key != label]
    if len(inputs) == 1:
        return f"name the parts: task.{arguments[0]}={inputs[0]} task.{arguments[1]}={label}"
    by_name = ", ".join(f"{key}: {key}" for key in inputs)  # by name: an order that does not fit would go unnoticed
    named = f"name the parts, inputs by the model's arguments: 'task.{arguments[0]}={{{by_name}}}' task.{arguments[1]}={label}"
    return f"for a classifier of transformers, give task=text_classification; else {named}" if "input_ids" in keys else named
