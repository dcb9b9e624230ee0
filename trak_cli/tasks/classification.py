"""Classifiers, of texts too: f is the log-odds of the true class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from trak_cli.batches import IGNORED
from trak_cli.errors import InputError, Problem
from trak_cli.tasks.margin import margin, widened
from trak_cli.tasks.quality import Quality, accuracy
from trak_cli.tasks.task import Inputs, SampleError, Task, call_model, field
from trak_cli.tasks.tokens import call, check_tokens

_ARGUMENTS = ("inputs", "label")

_SQUEEZE = "if the model calls squeeze(), use squeeze(-1), which keeps the batch dimension of a batch of one"


class Classification(Task):
    """One true class out of C ≥ 2: f = log(p / (1 − p)), q = 1 − p, loss = cross entropy.

    Args:
        inputs: the model's input in the batch: a position in a tuple or a key of a mapping. A list of these: several arguments;
            a mapping: arguments by name; null: the batch as a whole.
        label: the labels in the batch, shape (B,), any integer dtype, values in [0, C). A sample without a label, such as −100,
            has no f and is refused; leave it out of the data set.

    The model maps the inputs to logits (B, C). For any other signature, override :meth:`logits`.
    """

    def __init__(self, inputs: Inputs = 0, label: int | str = 1) -> None:
        self.inputs = inputs
        self.label = label
        self._classes: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()

    def logits(self, model: nn.Module, batch: Any) -> Tensor:
        """The logits (B, C) of a batch."""
        return _as_logits(call_model(model, batch, self.inputs, _ARGUMENTS))

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """The margin of the true class, (B,)."""
        return margin(_checked(self.logits(model, batch)), field(batch, self.label, _ARGUMENTS))

    def predictions(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The logits of all classes, (B, 1, C), and the labels, (B, 1)."""
        if (type(self).losses, type(self).loss) != (Classification.losses, Task.loss):  # a derived class with another loss
            return super().predictions(model, batch)
        labels = field(batch, self.label, _ARGUMENTS).long()
        return widened(_checked(self.logits(model, batch))).unsqueeze(1), labels.unsqueeze(1)

    def has_classes(self) -> bool:
        """True, unless a derived class has another f or another loss."""
        own, base = type(self), Classification
        return own.output is base.output and (own.losses, own.loss) == (base.losses, Task.loss)

    def predicts_classes(self) -> bool:
        """True, unless a derived class has another f, which may not be made from logits."""
        return type(self).output is Classification.output

    def class_logits(self, model: nn.Module, batch: Any) -> Tensor:
        """(B, C)."""
        return _checked(self.logits(model, batch))

    def losses(self, model: nn.Module, batch: Any) -> Tensor:
        """The cross entropy, (B,)."""
        logits = _checked(self.logits(model, batch))
        return nn.functional.cross_entropy(widened(logits), field(batch, self.label, _ARGUMENTS).long(), reduction="none")

    def quality(self, model: nn.Module, batches: Iterable[Any]) -> Quality:
        """The accuracy."""
        if type(self).output is not Classification.output:  # a class derived from this one may not use logits
            return super().quality(model, batches)
        correct = count = classes = 0
        for batch in batches:
            logits = _checked(self.logits(model, batch))
            correct += int((logits.argmax(1) == field(batch, self.label, _ARGUMENTS)).sum())
            count, classes = count + len(logits), logits.shape[1]
        return accuracy(correct, count, classes)

    def validate(self, model: nn.Module, batch: Any) -> None:
        """Labels must be integers, shape (B,), in [0, C); C is computed once per model.

        Raises:
            SampleError: the first sample whose label is out of range.
            InputError: labels or logits of the wrong shape or dtype, or a model with one class.
        """
        labels = _integer_labels(field(batch, self.label, _ARGUMENTS))
        if model not in self._classes:
            # With gradients, as in every other call: what a model caches in its first call must not lack its graph.
            self._classes[model] = int(_checked(self.logits(model, batch)).shape[1])
        _check_range(labels, self._classes[model])


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


class BinaryClassification(Task):
    """Two classes from a single logit z = log-odds of class 1: f = z for label 1, −z for label 0.

    Args:
        inputs: the model's input in the batch, as for :class:`Classification`.
        label: the labels in the batch, (B,) or (B, 1), 0 or 1 in any dtype, bool and floating ones included.

    The model maps the inputs to (B,) or (B, 1).
    """

    def __init__(self, inputs: Inputs = 0, label: int | str = 1) -> None:
        self.inputs = inputs
        self.label = label

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """Log-odds of the true class, (B,)."""
        logit = widened(single_value(call_model(model, batch, self.inputs, _ARGUMENTS)))
        labels = field(batch, self.label, _ARGUMENTS).to(logit.dtype).reshape(logit.shape)
        sign: Tensor = 2 * labels - 1
        return sign * logit

    def predicts_classes(self) -> bool:
        """True, unless a derived class has another f."""
        return type(self).output is BinaryClassification.output

    def class_logits(self, model: nn.Module, batch: Any) -> Tensor:
        """(B, 2): 0 for class 0, the logit for class 1."""
        logit = widened(single_value(call_model(model, batch, self.inputs, _ARGUMENTS)))
        return torch.stack([torch.zeros_like(logit), logit], dim=1)

    def quality(self, model: nn.Module, batches: Iterable[Any]) -> Quality:
        """The accuracy."""
        right = torch.cat([self.output(model, batch).detach() > 0 for batch in batches])
        return accuracy(int(right.sum()), len(right), 2)

    def validate(self, model: nn.Module, batch: Any) -> None:
        """Labels must be 0 or 1.

        Raises:
            SampleError: the first sample whose label is neither.
            InputError: labels of the wrong shape or dtype.
        """
        del model
        labels = field(batch, self.label, _ARGUMENTS)
        if not isinstance(labels, Tensor) or labels.is_complex() or labels.numel() != len(labels):
            expected = "a tensor of 0 and 1, (B,) or (B, 1)"
            raise InputError(Problem("labels", _kind(labels), expected, "return 0 or 1 for each sample from the dataset"))
        bad = ((labels != 0) & (labels != 1)).reshape(-1).nonzero()
        if len(bad):
            raise _refused_label(labels.reshape(-1), int(bad[0, 0]), "the label 0 or 1", "correct the label")


def single_value(found: Any) -> Tensor:
    """The output of a model with one value per sample, (B,) or (B, 1), as (B,)."""
    value = _as_logits(found)
    if value.dim() == 2 and value.shape[1] == 1:
        value = value.squeeze(1)
    if value.dim() != 1:
        remedy = "use a task that fits this model" if value.dim() else _SQUEEZE
        raise _misshaped(value, "one value for each sample, (B,) or (B, 1)", remedy)
    return value


def _as_logits(found: Any) -> Tensor:
    """The model's return value, or its attribute ``logits``, after checking that it is a tensor."""
    value = getattr(found, "logits", found)
    if not isinstance(value, Tensor):
        raise InputError(Problem("model output", type(found).__name__, "a tensor", "override the task's output for this model"))
    return value


def _checked(logits: Tensor) -> Tensor:
    if logits.dim() != 2:
        remedy = "override Classification.logits to return such logits"
        raise _misshaped(logits, "logits (B, C)", f"{_SQUEEZE}; or {remedy}" if logits.dim() == 1 else remedy)
    if logits.shape[1] < 2:
        raise _misshaped(logits, "at least 2 classes, for the log-odds to exist", "for a single logit, give task=binary")
    return logits


def _misshaped(value: Tensor, expected: str, remedy: str) -> InputError:
    return InputError(Problem("model output", f"shape {tuple(value.shape)}", expected, remedy))


def _integer_labels(labels: Any) -> Tensor:
    if isinstance(labels, Tensor) and labels.dim() == 1 and not (labels.is_floating_point() or labels.is_complex()):
        return labels
    remedy = "return one int per sample from the dataset"
    if isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels):
        remedy = "number the classes in the dataset or in its collate function: CLASSES.index(label)"
    if isinstance(labels, Tensor) and labels.is_floating_point():
        remedy += "; if they are numbers to predict, give task=regression"
    if isinstance(labels, Tensor) and labels.dim() == 2 and not labels.is_floating_point() and labels.shape[1] > 1:
        remedy += "; for a label at each position, with -100 where none counts, give task=token_classification"
    raise InputError(Problem("labels", _kind(labels), "a tensor of integers, (B,)", remedy))


def _check_range(labels: Tensor, classes: int) -> None:
    values = labels.long()  # bool labels count as 0 and 1
    bad = ((values < 0) | (values >= classes)).nonzero()
    if len(bad):
        remedy = f"correct the label, or load a model with more than {classes} classes"
        raise _refused_label(values, int(bad[0, 0]), f"a label in [0, {classes})", remedy)


def _refused_label(labels: Tensor, position: int, expected: str, remedy: str) -> SampleError:
    value = labels[position].item()
    if value == IGNORED:
        found = f"label {IGNORED}, which marks a label that is not counted, so the sample has no f"
        return SampleError(position, found, expected, "leave samples without a label out of the data set")
    return SampleError(position, f"label {value:g}", expected, remedy)


def _kind(labels: Any) -> str:
    return f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
