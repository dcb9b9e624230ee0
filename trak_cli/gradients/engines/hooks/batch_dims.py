"""The batch axis of each recorded tensor, found by running batches of two and of three copies of one sample.

An axis whose size grows with the batch is the batch axis; an axis whose size merely equals the batch size (a sequence of that
length) is not mistaken for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import first_repeated
from trak_cli.errors import InputError
from trak_cli.gradients.checks.compare import worst_output
from trak_cli.gradients.checks.tolerances import output_tolerance
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.engines.hooks.dynamic_shapes import Watch
from trak_cli.gradients.engines.hooks.recorder import Call, Recorder, Site
from trak_cli.gradients.refusals import checked_vector

#: The search for shared outputs ends after this many rounds.
_ROUNDS = 6


@dataclass(frozen=True)
class Axis:
    """The batch axis ``dim``; ``packed``: each sample has several neighbouring entries (a flattened axis (B · c))."""

    dim: int
    packed: bool = False


@dataclass(frozen=True)
class Axes:
    """The batch axis of each input and output leaf of a call; None for a leaf that all samples share or that is no tensor.

    ``unclear``: a leaf has two growing axes, or its presence depends on the batch. ``doubtful``: the number of entries of a
    sample, or its place, may depend on the content of the batch, so the shares of every batch are checked.
    """

    inputs: tuple[Axis | None, ...]
    outputs: tuple[Axis | None, ...]
    unclear: bool = False
    doubtful: bool = False

    @property
    def shared(self) -> bool:
        """Whether no output of the call grows with the batch."""
        return all(axis is None for axis in self.outputs)


@dataclass(frozen=True)
class Survey:
    """Attributes:
    axes: the batch axes of every call.
    expand: the calls whose outputs all samples share; they are repeated for each sample.
    doubtful: the calls whose shares are checked in every batch.
    """

    axes: Mapping[Site, Axes]
    expand: frozenset[Site]

    @property
    def doubtful(self) -> frozenset[Site]:
        return frozenset(site for site, axes in self.axes.items() if axes.doubtful)


def survey(model: nn.Module, task: ModelOutput, batch: Any, modules: Mapping[str, nn.Module]) -> Survey:
    """The batch axes of all calls of ``modules`` under ``task``, from runs of the first sample of ``batch``.

    Repeating a shared output for each sample may give a batch axis to outputs computed from it, so the runs are repeated until
    the set of repeated calls is stable. A call is marked as unclear if the model rejects its repeated output, or computes
    other outputs from it.
    """
    expand: frozenset[Site] = frozenset()
    refused: set[Site] = set()
    runs = _Runs(model, task, batch, modules)
    axes, plain = runs.axes_with(expand)
    outputs = plain
    for _ in range(_ROUNDS):
        shared = frozenset(site for site, of_call in axes.items() if of_call.shared and not of_call.unclear) - refused
        if shared == expand:
            if runs.same(outputs, plain):
                break
            refused |= _not_taken(runs, shared, plain)
            continue
        try:
            axes, outputs = runs.axes_with(shared)
            expand = shared
        except _NOT_TAKEN:
            refused |= _not_taken(runs, shared, plain)
    unclear = {site: Axes((), (), unclear=True) for site, of_call in axes.items() if of_call.shared and site not in expand}
    return Survey({**axes, **unclear}, expand)


#: Exceptions of a model that rejects repeated outputs.
_NOT_TAKEN = (RuntimeError, ValueError, IndexError, InputError)


def _not_taken(runs: _Runs, shared: frozenset[Site], plain: Tensor) -> set[Site]:
    """The calls whose repeated output, each tried alone, the model rejects or changes f; all calls if there is none."""
    refused = set()
    for site in shared:
        try:
            if not runs.same(runs.axes_with(frozenset({site}))[1], plain):
                refused.add(site)
        except _NOT_TAKEN:
            refused.add(site)
    return refused or set(shared)


@dataclass(frozen=True)
class _Runs:
    """Runs of the model on copies of the first sample of a batch."""

    model: nn.Module
    task: ModelOutput
    batch: Any
    modules: Mapping[str, nn.Module]

    def axes_with(self, expand: frozenset[Site]) -> tuple[dict[Site, Axes], Tensor]:
        """The batch axes of every call, and f of three samples, with the outputs of ``expand`` repeated."""
        (two, _), (three, outputs) = (self._calls(size, expand) for size in (2, 3))
        return {site: _axes(call, three.get(site)) for site, call in two.items()}, outputs

    def same(self, outputs: Tensor, plain: Tensor) -> bool:
        """Whether f is unchanged by the repetition, up to rounding."""
        return worst_output(outputs, plain)[1] <= output_tolerance(self.model, self.task)

    def _calls(self, size: int, expand: frozenset[Site]) -> tuple[dict[Site, Call], Tensor]:
        batch = first_repeated(self.batch, size)
        with Watch(batch) as watch, Recorder(self.modules, size, expand, watch=watch) as recorder, torch.enable_grad():
            outputs = checked_vector(self.task.output(self.model, batch), size, "output")
        return {call.site: call for call in recorder.calls}, outputs.detach()


def _axes(two: Call, three: Call | None) -> Axes:
    """The axes that grow between a call with two samples and the same call with three."""
    if three is None or len(two.inputs) != len(three.inputs) or len(two.shapes) != len(three.shapes):
        return Axes((), (), unclear=True)
    shapes = [(_shape_of(a), _shape_of(b)) for a, b in zip(two.inputs, three.inputs, strict=True)]
    outputs = list(zip(two.shapes, three.shapes, strict=True))
    try:
        axes = Axes(tuple(_axis(a, b) for a, b in shapes), tuple(_axis(a, b) for a, b in outputs))
        packed = any(axis is not None and axis.packed for axis in (*axes.inputs, *axes.outputs))
        moved = two.after_moved and three.after_moved  # not just a dimension of size two or three
        return replace(axes, doubtful=two.after_cut or moved or (packed and two.after_read))
    except ValueError:
        return Axes((), (), unclear=True)


def _shape_of(leaf: Any) -> torch.Size | None:
    return leaf.shape if isinstance(leaf, Tensor) else None


def _axis(two: torch.Size | None, three: torch.Size | None) -> Axis | None:
    """The growing axis; raises ValueError if there are several, or if it does not grow in proportion to the batch."""
    if two is None and three is None:
        return None
    if two is None or three is None or len(two) != len(three):
        raise ValueError
    grown = [dim for dim, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
    if not grown:
        return None
    if len(grown) > 1 or 3 * two[grown[0]] != 2 * three[grown[0]]:
        raise ValueError
    return Axis(grown[0], packed=two[grown[0]] != 2)
