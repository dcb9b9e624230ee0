"""Checks that f depends only on the sample and the weights, and not on earlier calls of the model.

The model in use, after other batches, is compared with a new model that has the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, TrakError
from trak_cli.gradients.checks.compare import worst_output
from trak_cli.gradients.checks.observation import Observation, attributes, digests, holds_graph, observe
from trak_cli.gradients.checks.tolerances import output_tolerance
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.refusals import changes, fails_alone, keeps, random_build, squeezed
from trak_cli.types import listed
from trak_cli.user_errors import error_summary, is_out_of_memory, report_user_errors, text_of

#: Sums over activations that differ by this share are different.
_SAME = 1e-5

#: Key of the batch of all samples, among the positions of single ones.
_TOGETHER = -1


@dataclass(frozen=True)
class Subject:
    """The model of a run, and the ways to replace it.

    Attributes:
        model: returns the model in use.
        renew: puts a new model with the same weights into use, and releases the previous one.
        restore: makes new models restore these buffers before each call of the modules that own them.
        parameters: the parameters of a model that gradients are computed for; none if only outputs matter.
    """

    model: Callable[[], nn.Module]
    renew: Callable[[], None]
    restore: Callable[[Collection[str]], None]
    task: ModelOutput
    parameters: Callable[[nn.Module], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Samples:
    """Samples on which two models are compared.

    Attributes:
        together: all samples collated together; None if no batch has more than one sample.
        singles: each of them collated alone.
        names: their names in messages.
    """

    together: Any
    singles: Sequence[Any]
    names: Sequence[str]

    @property
    def order(self) -> list[int]:
        """The keys of all batches: first all samples together, then single ones by their positions."""
        return [*([] if self.together is None else [_TOGETHER]), *range(len(self.singles))]


@dataclass(frozen=True)
class History:
    """What the comparison shows about the model.

    Attributes:
        reached: the parameters that f depends on.
        restored: the buffers that forward changes, which are restored before each call.
    """

    reached: set[str]
    restored: list[str]


def check_history(subject: Subject, samples: Samples) -> History:
    """Refuse a model that keeps values between calls, or whose forward pass changes its weights.

    Raises:
        InputError: names the module, attribute, parameter or buffer.
    """
    used = _observed(subject, samples, samples.order, used=True)
    kept = attributes(subject.model())
    subject.renew()
    before, initial = digests(subject.model()), attributes(subject.model())
    backwards = samples.order[::-1]
    new = _observed(subject, samples, backwards)
    after = digests(subject.model())
    changed = sorted(name for name in before | after if before.get(name) != after.get(name))
    if changed:
        new = _restored(subject, samples, changed, new)
        return History(_union(new), changed)
    limit = output_tolerance(subject.model(), subject.task)
    position = _differing(used, new, limit)
    if position is None and used.reached == new.reached:
        return History(_union(new), [])
    subject.renew()
    again, last = attributes(subject.model()), digests(subject.model())
    if position is not None and _differing(new, _observed(subject, samples, backwards), limit) is not None:
        names = [name for name in last if last[name] != before.get(name)]
        raise random_build([*names, *(name for name in again if again[name] != initial.get(name))])
    raise _kept(samples, used, new, position, [name for name in kept if kept[name] != initial.get(name)])


def _observed(subject: Subject, samples: Samples, order: Sequence[int], used: bool = False) -> Observation:
    """Outputs and calls of the model in use on the samples in this order, with gradients; ``used``: it was called before."""
    model, seen = subject.model(), Observation()
    batches = {key: samples.together if key == _TOGETHER else samples.singles[key] for key in order}
    try:
        observe(model, subject.task, batches, subject.parameters(model), seen)
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if "backward through the graph a second time" in text_of(error):
            raise keeps("an autograd graph that a later call uses again", holds_graph(model)) from error
        *earlier, key = seen.calls
        if (earlier or used) and _works_first(subject, batches[key], kept := attributes(model)):
            raise keeps(f"{error_summary(error)} after other samples, but not in a new model", list(kept)) from error
        if (lost := _lost_dimension(seen)) is not None:
            raise squeezed(lost) from error
        if isinstance(error, TrakError):
            raise
        if _TOGETHER in earlier:
            raise fails_alone(error) from error
        with report_user_errors(listed(samples.names) if key == _TOGETHER else samples.names[key], library=True):
            raise
    return seen


def _works_first(subject: Subject, batch: Any, kept: dict[str, object]) -> bool:
    """Whether a new model accepts a batch for which the model in use raised an exception.

    Args:
        kept: the attributes of the model in use; those that a new model has too are removed.
    """
    subject.renew()
    for name, value in attributes(subject.model()).items():
        if name in kept and kept[name] == value:
            del kept[name]
    try:
        model = subject.model()
        observe(model, subject.task, {0: batch}, subject.parameters(model), Observation())
    except Exception:
        return False
    return True


def _restored(subject: Subject, samples: Samples, changed: list[str], first: Observation) -> Observation:
    """Outputs and calls of a model with its changed buffers restored before each call.

    Raises:
        InputError: a parameter has changed, or f still depends on earlier calls.
    """
    model = subject.model()
    buffers = dict(model.named_buffers())
    owners = {name.rpartition(".")[0] for name in changed}
    called = all(owners <= {call.module for call in calls} for calls in first.calls.values())
    if not (called and all(name in buffers for name in changed)):
        raise changes(changed, buffers)
    del model
    subject.restore(changed)
    subject.renew()
    limit = output_tolerance(subject.model(), subject.task)
    backwards = samples.order[::-1]
    once, again = _observed(subject, samples, backwards), _observed(subject, samples, backwards[::-1])
    start = Observation(outputs={backwards[0]: first.outputs[backwards[0]]})  # the only call of a model that was new
    together = once.outputs.get(_TOGETHER, torch.cat([once.outputs[key] for key in range(len(samples.singles))]))
    pairs = ((once, again), (start, once), (Observation(outputs=dict(enumerate(together.unsqueeze(1)))), once))
    if once.reached != again.reached or any(_differing(*pair, limit) is not None for pair in pairs):
        raise changes(changed, buffers)
    return once


def _union(seen: Observation) -> set[str]:
    return set[str]().union(*seen.reached.values())


def _differing(first: Observation, second: Observation, limit: float) -> int | None:
    """The position of the single sample whose outputs differ most; None if they differ by rounding only."""
    keys = [key for key in first.outputs if key in second.outputs and key != _TOGETHER]
    ours, theirs = (torch.cat([seen.outputs[key] for key in keys]) for seen in (first, second))
    worst, difference = worst_output(ours, theirs)
    return keys[worst] if difference > limit else None


def _kept(samples: Samples, used: Observation, new: Observation, position: int | None, kept: Sequence[str]) -> InputError:
    """The error for a model whose outputs, or the parameters they depend on, differ from those of a new model."""
    module = ""
    if position is None:
        names = sorted({name for key, reached in used.reached.items() for name in reached ^ new.reached[key]})
        found = f"f that depends on {listed(names)} in some calls only"
        module = names[0].rpartition(".")[0]
    else:
        found = (
            f"f = {float(used.outputs[position]):.6g} for {samples.names[position]} after other samples, but"
            f" {float(new.outputs[position]):.6g} in a new model with the same weights"
        )
        module = _culprit(used, new, position)
    inside = [name for name in kept if name.rpartition(".")[0] == module]
    return keeps(found, inside or kept, module)


def _culprit(used: Observation, new: Observation, position: int) -> str:
    """The first module that returned different outputs for the same inputs; "" for the model itself."""
    for call, new_call in zip(used.calls[position], new.calls[position], strict=False):
        if call.module != new_call.module:
            return ""
        if _differ(call.returned, new_call.returned) and not _differ(call.received, new_call.received):
            return call.module
    return ""


def _differ(first: float, second: float) -> bool:
    return abs(first - second) > _SAME * max(abs(first), abs(second))


def _lost_dimension(seen: Observation) -> str | None:
    """The first module whose output, but not its input, has one dimension fewer for one sample than for several.

    "" for the model itself; None if no dimension is lost.
    """
    together = seen.calls.get(_TOGETHER)
    if together is None or len(seen.calls) < 2:
        return None
    lost = None
    for several, single in zip(together, list(seen.calls.values())[-1], strict=False):
        if several.module != single.module:
            break
        if _fewer(single.dims_returned, several.dims_returned):
            lost = ""
            if not _fewer(single.dims_received, several.dims_received):
                return single.module
    return lost


def _fewer(dims: Sequence[int], others: Sequence[int]) -> bool:
    return any(one == other - 1 for one, other in zip(dims, others, strict=False))
