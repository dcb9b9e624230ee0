"""Which axis of each recorded tensor counts samples: found by running one sample twice over and three times over.

A size that grows with the batch is an axis of samples; one that happens to equal the batch (a sequence as long as the
batch is large) is not taken for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import first_repeated
from trak_cli.errors import InputError
from trak_cli.gradients.checks.agreement import relative_difference
from trak_cli.gradients.checks.tolerances import output_tolerance
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.engines.hooks.dynamic_shapes import Watch
from trak_cli.gradients.engines.hooks.recorder import Call, Recorder, Site
from trak_cli.gradients.refusals import checked_vector

#: After how many rounds the search for shared outputs is given up.
_ROUNDS = 6


@dataclass(frozen=True)
class Axis:
    """Samples along ``dim``; ``packed``: several neighbouring entries for each (a flattened axis (B · c))."""

    dim: int
    packed: bool = False


@dataclass(frozen=True)
class Axes:
    """The axis of each input and output leaf of a site; None for what all samples share and for what is no tensor.

    ``unclear``: a leaf has two growing axes, or its presence depends on the batch. ``doubtful``: how many entries a sample
    has may depend on what it holds, so that equal shares have to be checked in every batch.
    """

    inputs: tuple[Axis | None, ...]
    outputs: tuple[Axis | None, ...]
    unclear: bool = False
    doubtful: bool = False

    @property
    def shared(self) -> bool:
        """Whether the site gives something that does not grow with the batch."""
        return all(axis is None for axis in self.outputs)


@dataclass(frozen=True)
class Survey:
    """Attributes:
    axes: of every site.
    expand: the sites whose outputs all samples share, and that are to be repeated for each.
    doubtful: the sites whose entries are to be checked.
    """

    axes: Mapping[Site, Axes]
    expand: frozenset[Site]

    @property
    def doubtful(self) -> frozenset[Site]:
        return frozenset(site for site, one in self.axes.items() if one.doubtful)


def survey(model: nn.Module, task: ModelOutput, batch: Any, modules: Mapping[str, nn.Module]) -> Survey:
    """The axes of all calls of ``modules`` under ``task``; the model is run on the first sample of ``batch``.

    To repeat what the first sites share may turn what follows from it into something of one for each sample; so the runs
    are repeated until the set of sites to repeat stays the same. A site whose output the model does not take once it is
    repeated, or from which it then computes other outputs, is marked as unclear.
    """
    expand: frozenset[Site] = frozenset()
    refused: set[Site] = set()
    runs = _Runs(model, task, batch, modules)
    axes, plain = runs.axes_with(expand)
    outputs = plain
    for _ in range(_ROUNDS):
        shared = frozenset(site for site, one in axes.items() if one.shared and not one.unclear) - refused
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
    unclear = {site: Axes((), (), unclear=True) for site, one in axes.items() if one.shared and site not in expand}
    return Survey({**axes, **unclear}, expand)


#: What a model says to repeated outputs that it does not take.
_NOT_TAKEN = (RuntimeError, ValueError, IndexError, InputError)


def _not_taken(runs: _Runs, shared: frozenset[Site], plain: Tensor) -> set[Site]:
    """The sites whose repeated output the model does not take, or that change f, each tried alone; all if none does alone."""
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
    """Runs of the model on the first sample of a batch, several times over."""

    model: nn.Module
    task: ModelOutput
    batch: Any
    modules: Mapping[str, nn.Module]

    def axes_with(self, expand: frozenset[Site]) -> tuple[dict[Site, Axes], Tensor]:
        """The axes of every call, and f of three samples, where the outputs of ``expand`` are repeated."""
        (two, _), (three, outputs) = (self._calls(size, expand) for size in (2, 3))
        return {site: _axes(call, three.get(site)) for site, call in two.items()}, outputs

    def same(self, outputs: Tensor, plain: Tensor) -> bool:
        """Whether f is what it is where nothing is repeated."""
        return relative_difference(outputs, plain) <= output_tolerance(self.model, self.task)

    def _calls(self, size: int, expand: frozenset[Site]) -> tuple[dict[Site, Call], Tensor]:
        batch = first_repeated(self.batch, size)
        with Watch(batch) as watch, Recorder(self.modules, size, expand, watch=watch) as recorder, torch.enable_grad():
            outputs = checked_vector(self.task.output(self.model, batch), size, "output")
        return {call.site: call for call in recorder.calls}, outputs.detach()


def _axes(two: Call, three: Call | None) -> Axes:
    """What grew from a call with two samples to the same call with three."""
    if three is None or len(two.inputs) != len(three.inputs) or len(two.shapes) != len(three.shapes):
        return Axes((), (), unclear=True)
    shapes = [(_shape_of(a), _shape_of(b)) for a, b in zip(two.inputs, three.inputs, strict=True)]
    outputs = list(zip(two.shapes, three.shapes, strict=True))
    try:
        found = Axes(tuple(_axis(a, b) for a, b in shapes), tuple(_axis(a, b) for a, b in outputs))
        packed = any(axis is not None and axis.packed for axis in (*found.inputs, *found.outputs))
        return replace(found, doubtful=two.after_cut or (packed and two.after_read))
    except ValueError:
        return Axes((), (), unclear=True)


def _shape_of(leaf: Any) -> torch.Size | None:
    return leaf.shape if isinstance(leaf, Tensor) else None


def _axis(two: torch.Size | None, three: torch.Size | None) -> Axis | None:
    """Raises ValueError where there is more than one growing axis, or one that does not grow with the batch."""
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
