"""Checks that the output for a sample does not depend on the other samples of its batch, and finds the cause if it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import leaves
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.checks.compare import largest_difference
from trak_cli.gradients.checks.tolerances import output_tolerance
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.refusals import checked_vector, random_output
from trak_cli.user_errors import first_line

_EXPECTED = "an output that does not depend on the rest of the batch"
_KEEP_ORDER = "return each sample once, in the order in which collate gets them (pack_padded_sequence: enforce_sorted=False)"
_NORMS = "use running statistics, or a norm within each sample"
_LOOK_FOR = "look for BatchNorm that uses batch statistics, other statistics over the batch, or padding without a mask"


@dataclass(frozen=True)
class Trial:
    """The same samples in a batch, in a batch in reverse order, and alone.

    Attributes:
        batch, reversed: all samples collated together, in both orders.
        singles: each sample collated alone, in the order of ``batch``.
        names: what messages call the samples.
        sizes: how large each sample is, as far as padding is concerned.
    """

    batch: Any
    reversed: Any
    singles: Sequence[Any]
    names: Sequence[str]
    sizes: Sequence[int]


def check_independence(model: nn.Module, task: ModelOutput, trial: Trial) -> float:
    """Refuse a model whose f or q for a sample is random, or depends on the other samples of its batch.

    Returns:
        The largest difference of f or q, relative to the largest value of the batch or 1, whichever is larger.

    Raises:
        InputError: names the sample that differs most, by how much, and the likely reason.
    """
    count = len(trial.singles)
    if count < 2:
        raise ValueError(f"at least two samples are required; got {count}")
    with exact():
        together, again = (_computed(model, task, trial.batch, count) for _ in range(2))
        backwards = _computed(model, task, trial.reversed, count)
        singles = [_alone(model, task, single) for single in trial.singles]
    alone = [torch.cat(values) for values in zip(*singles, strict=True)]
    forwards = list(range(count))
    worst = 0.0
    for what, once, twice, turned, expected in zip(("f", "q"), together, again, backwards, alone, strict=True):
        scale = max(1.0, float(once.abs().nan_to_num(0.0, 0.0).max()))
        limit = output_tolerance(model, task) * scale
        position, difference = largest_difference(once, twice)
        if difference > limit:
            raise random_output(f"{what} = {float(once[position]):.6g}, then {float(twice[position]):.6g} for the same sample")
        for batch, values, order in ((trial.batch, once, forwards), (trial.reversed, turned, forwards[::-1])):
            position, difference = largest_difference(values, expected[order])
            worst = max(worst, difference / scale)
            if difference > limit:
                found = (
                    f"{what} = {float(expected[order][position]):.6g} for {trial.names[order[position]]} alone, but"
                    f" {float(values[position]):.6g} at position {position} of a batch of {count}"
                )
                where, reason, remedy = _reason(model, _InBatch(trial, batch, order), values, expected[order], limit)
                raise InputError(Problem(where, reason + found, _EXPECTED, remedy))
    return worst


def check_repeated(model: nn.Module, task: ModelOutput, single: Any) -> None:
    """Refuse a model whose f or q for a sample is random.

    Raises:
        InputError: two computations give different values.
    """
    first, second = (_alone(model, task, single) for _ in range(2))
    for what, once, twice in zip(("f", "q"), first, second, strict=True):
        if largest_difference(once, twice)[1] > output_tolerance(model, task) * max(
            1.0, float(once.abs().nan_to_num(0.0, 0.0))
        ):
            raise random_output(f"{what} = {float(once):.6g}, then {float(twice):.6g} for the same sample")


@dataclass(frozen=True)
class _InBatch:
    """One of the two batches of a trial; ``order``: the sample at each position."""

    trial: Trial
    batch: Any
    order: list[int]

    def in_order(self, values: Sequence[Any]) -> list[Any]:
        """Values of the samples in the order of the batch."""
        return [values[sample] for sample in self.order]

    def named(self, position: int) -> str:
        """The name and the size of the sample at a position."""
        sample = self.order[position]
        return f"{self.trial.names[sample]} (size {self.trial.sizes[sample]})"


def _reason(model: nn.Module, in_batch: _InBatch, values: Tensor, expected: Tensor, limit: float) -> tuple[str, str, str]:
    """Why the outputs ``values`` of a batch differ from the outputs ``expected`` of its samples alone.

    Returns:
        Where the reason lies, the reason in words (empty if unknown), and a remedy.
    """
    if float((values.sort().values - expected.sort().values).abs().max()) <= limit:
        return "dataset.collate", "the order of the samples changes: ", _KEEP_ORDER
    if bool(((values.unsqueeze(1) - expected).abs().amin(1) <= limit).all()):
        return "dataset.collate", "samples are repeated in place of others: ", _KEEP_ORDER
    moved = _moved_parts(in_batch.batch, in_batch.in_order(in_batch.trial.singles))
    if moved:
        return "dataset.collate", f"the order of the samples changes in {', '.join(moved)}: ", _KEEP_ORDER
    sizes = torch.tensor(in_batch.in_order(in_batch.trial.sizes), device=values.device)
    wrong = (values - expected).abs().nan_to_num(0.0, 0.0, 0.0) > limit
    if not bool(wrong[sizes == sizes.max()].any()):
        reason = f"padding without a mask: outputs change beside the larger {in_batch.named(int(sizes.argmax()))}: "
        return "model", reason, "give the model a mask of the padding, and use it wherever positions are combined"
    if not bool(wrong[sizes == sizes.min()].any()):
        reason = f"samples are cut to the smallest of the batch, {in_batch.named(int(sizes.argmin()))}: "
        return "dataset.collate", reason, "pad samples to the largest of the batch instead"
    names = _batch_statistics(model)
    if names:
        return f"model: {names[0]}", "statistics of the batch: ", _NORMS
    return "model", "", _LOOK_FOR


def _moved_parts(batch: Any, singles: Sequence[Any]) -> list[str]:
    """The parts of a batch whose rows are those of the samples, but in another order."""
    moved = []
    parts = [dict(leaves(single)) for single in singles]
    for name, leaf in leaves(batch):
        if not isinstance(leaf, Tensor) or leaf.dim() == 0 or len(leaf) != len(singles):
            continue
        rows = [part.get(name) for part in parts]
        if not all(isinstance(row, Tensor) and row.dim() == leaf.dim() and len(row) == 1 for row in rows):
            continue
        same = [[_same_start(value, row[0]) for row in rows] for value in leaf]  # type: ignore[index]
        misplaced = [not places[position] for position, places in enumerate(same)]
        if any(misplaced) and all(any(places) for places in same):
            moved.append(name)
    return moved


def _same_start(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal in the region that both cover, from the start of each dimension."""
    common = tuple(slice(min(sizes)) for sizes in zip(first.shape, second.shape, strict=True))
    return torch.equal(first[common], second[common])


def _batch_statistics(model: nn.Module) -> list[str]:
    """Modules that normalise with statistics of the batch, or are in training mode."""
    return [
        f"{name} ({type(module).__name__})"
        for name, module in model.named_modules()
        if name and (module.training or (hasattr(module, "running_mean") and module.running_mean is None))
        if "Norm" in type(module).__name__ and "Instance" not in type(module).__name__
    ]


def _computed(model: nn.Module, task: ModelOutput, batch: Any, size: int) -> tuple[Tensor, Tensor]:
    """f and q of a batch, float64; f with gradients enabled, so that the model computes it as it does in an engine."""
    with torch.enable_grad():
        outputs = checked_vector(task.output(model, batch), size, "output").detach()
    with torch.no_grad():
        ratios = checked_vector(task.out_to_loss_grad(model, batch, outputs), size, "out_to_loss_grad")
    return outputs.double(), ratios.double()


def _alone(model: nn.Module, task: ModelOutput, single: Any) -> tuple[Tensor, Tensor]:
    """f and q of a batch of one. A normalisation layer may raise an exception for one sample and accept several."""
    try:
        return _computed(model, task, single, 1)
    except ValueError as error:
        names = _batch_statistics(model)
        found = f"a failure on a sample alone, but not on several ({first_line(error)})"
        where, remedy = (f"model: {names[0]}", _NORMS) if names else ("model", _LOOK_FOR)
        raise InputError(Problem(where, found, _EXPECTED, remedy)) from error
