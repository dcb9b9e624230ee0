"""Finds the optimizer state of a checkpoint, in its file or beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from trak_cli.errors import InputError
from trak_cli.plugins.checkpoints.formats.distributed import read_values
from trak_cli.plugins.checkpoints.formats.folders import INDEX, weights_in
from trak_cli.plugins.checkpoints.readers import reader_of
from trak_cli.plugins.optimizers.match import UnmatchedError, match
from trak_cli.plugins.optimizers.state import Optimizer, OptimizerState, Slot, effective, find_states

#: Optimizer files of the Hugging Face Trainer and of Accelerate in the folder of a checkpoint; the last one is a folder.
BESIDE = ("optimizer.pt", "optimizer.bin", "optimizer_0")

#: Prefixes of weight files that are the only checkpoint of their folder, so that a state beside them is theirs.
_ALONE = ("model.", "pytorch_model.", "adapter_model.")


@dataclass(frozen=True)
class TrainedBy:
    """The optimizer that trained a checkpoint, and its second moments.

    Attributes:
        file: the file with the state.
        optimizer: its kind.
        entries: canonical parameter name -> its entry; None if second moments cannot be read from them.
        reason: why they cannot be read.
    """

    file: Path
    optimizer: Optimizer
    entries: Mapping[str, Slot] | None
    reason: str = ""

    def second_moments(self, name: str) -> Tensor | None:
        """The second moments that divide steps of a parameter, float64 in its shape; None if no step has changed it."""
        slot = (self.entries or {}).get(name)
        if slot is None or self.optimizer.read is None:
            return None
        return effective(self.optimizer.read(slot.values(), slot.group))


def trained_by(path: Path, model: nn.Module) -> TrainedBy | None:
    """The optimizer that trained a checkpoint, from its state; None if the checkpoint has none.

    Args:
        path: the file or folder of the checkpoint.
        model: the model that the checkpoint fits.
    """
    folder = path if path.is_dir() else path.parent if path.name.startswith(_ALONE) else None
    beside = [folder / name for name in BESIDE if (folder / name).exists()] if folder is not None else []
    for file in [*([path] if path.suffix != ".safetensors" else []), *beside]:
        try:
            content = _content(file)
        except InputError as error:
            if file == path:
                continue  # loading the weights reports it
            return TrainedBy(file, Optimizer("an optimizer whose state cannot be read", None), None, error.problems[0].found)
        states = dict(find_states(content))
        if states:
            return _chosen(file, states, model, _shapes(content))
    return None


def _content(path: Path) -> object:
    content = reader_of(path).read(path)
    folder = path if (path / INDEX).is_file() else weights_in(path) if path.is_dir() else None
    if isinstance(content, Mapping) and folder is not None and (folder / INDEX).is_file():
        return {**content, **read_values(folder, "param_groups")}
    return content


def _chosen(
    file: Path, states: Mapping[str, OptimizerState], model: nn.Module, weights: Mapping[str, tuple[int, ...]]
) -> TrainedBy:
    """The state that fits the model; with several, the only one."""
    matches = [_matched(file, state, model, weights) for state in states.values()]
    if len(matches) == 1:
        return matches[0]
    usable = [trained for trained in matches if trained.entries is not None]
    if len(usable) == 1:
        return usable[0]
    adaptive = {trained.optimizer.adaptive for trained in matches}
    names = " and ".join(dict.fromkeys(trained.optimizer.name for trained in matches))
    kind = Optimizer(names, adaptive.pop() if len(adaptive) == 1 else None)
    return TrainedBy(file, kind, None, f"there are {len(states)} states, under the keys {', '.join(states)}")


def _matched(file: Path, state: OptimizerState, model: nn.Module, weights: Mapping[str, tuple[int, ...]]) -> TrainedBy:
    without = partial(TrainedBy, file, state.optimizer, None)
    if state.optimizer.read is None:
        return without(f"the state of {state.optimizer.name} has no second moments in a known form")
    try:
        trained = TrainedBy(file, state.optimizer, match(state, model, weights))
    except UnmatchedError as error:
        return without(str(error))
    for name in trained.entries or {}:
        try:
            second = trained.second_moments(name)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            return without(f"its entry for {name} is not complete ({error!r})")
        if second is not None and not bool(second.isfinite().all()):
            return without(f"the second moments of {name} are not finite")
    return trained


def _shapes(content: object) -> dict[str, tuple[int, ...]]:
    """The largest state_dict in the content: name -> shape, in the order of the trained model."""
    if not isinstance(content, Mapping):
        return {}
    shapes = {str(name): tuple(value.shape) for name, value in content.items() if isinstance(value, Tensor)}
    inner = [_shapes(value) for value in content.values() if isinstance(value, Mapping) and "param_groups" not in value]
    return max([shapes, *inner], key=len)
