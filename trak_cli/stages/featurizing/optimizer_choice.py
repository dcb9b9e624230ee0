"""Decides from the config and the checkpoints whether gradients are scaled as in Adam, and by which second moments."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trak_cli.config.compose.plugin_import import locate
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.gradients.options import REPRESENTATION
from trak_cli.plugins.checkpoints.formats.pickles import allowing
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.plugins.optimizers.files import TrainedBy, trained_by
from trak_cli.plurals import counted
from trak_cli.stages.inputs.run_inputs import RunInputs

_SAMPLES = "gradients are scaled by second moments of training samples"


@dataclass(frozen=True)
class OptimizerChoice:
    """How the optimizer that trained the checkpoints changes gradients.

    Attributes:
        scaled: whether gradients are scaled by second moments.
        states: checkpoint file -> digest of the file with the state whose moments are used; empty if they are estimated.
        line: the decision and its reason, for the log; empty if the config sets it.
        question: what the config should say, as advice; empty if the optimizer is known.
    """

    scaled: bool
    states: Mapping[Path, str] = field(default_factory=dict)
    line: str = ""
    question: str = ""


def choose_optimizer(config: TrakConfig, inputs: RunInputs, selected: Collection[str]) -> OptimizerChoice:
    """The choice for all checkpoints of a run.

    Args:
        selected: canonical names of the parameters whose gradients are projected.

    Raises:
        ConfigError: checkpoints of different optimizers, and the config does not name one.
        InputError: second moments are to come from the checkpoints, and some have none that can be used.
    """
    gradients = config.gradients
    if gradients.engine == REPRESENTATION or gradients.optimizer == "sgd":
        return OptimizerChoice(False)
    if gradients.optimizer == "adam" and gradients.moments == "samples":
        return OptimizerChoice(True, line=f"Adam, as set by gradients.optimizer: {_SAMPLES}")
    paths = dict.fromkeys(checkpoint.path for checkpoint in inputs.checkpoints)
    with allowing(config.checkpoints.allow):
        states = {path: trained_by(path, inputs.components.model) for path in paths}
    known = {path: state for path, state in states.items() if state is not None}
    usable = {path: state for path, state in known.items() if state.entries is not None}
    if gradients.moments == "checkpoint" and len(usable) < len(states):
        raise InputError(_unusable(path, state) for path, state in states.items() if path not in usable)
    if gradients.optimizer is None and not known:
        return _by_trainer(config, list(paths))
    if gradients.optimizer is None and not _adaptive(known):
        return _plain(next(iter(known.values())))
    if gradients.moments == "samples" or len(usable) < len(states):
        return OptimizerChoice(True, line=f"{_why_samples(states, gradients.moments)}: {_SAMPLES}")
    return OptimizerChoice(True, {path: sha256(state.file) for path, state in usable.items()}, _describe(usable, selected))


def _by_trainer(config: TrakConfig, paths: list[Path]) -> OptimizerChoice:
    """The choice for checkpoints without the state of an optimizer."""
    optimizer = "sgd"
    if isinstance(config.trainer, Mapping):
        optimizer = str(getattr(locate(config.trainer["_target_"], "trainer._target_"), "optimizer", "sgd"))
    if optimizer == "adam":
        return OptimizerChoice(True, line=f"Adam, as the trainer plugin implies: {_SAMPLES}")
    folder = Path(config.train.folder).resolve()
    if all(path.resolve().parent == folder for path in paths):  # `trak train` wrote them
        return OptimizerChoice(False)
    return OptimizerChoice(
        False,
        line="no optimizer state in the checkpoints, so gradients are not scaled;"
        " if Adam or AdamW trained them, set gradients.optimizer=adam (otherwise sgd)",
        question="gradients.optimizer=adam if Adam or AdamW trained the checkpoints (otherwise sgd): they hold no state of it",
    )


def _adaptive(known: Mapping[Path, TrainedBy]) -> bool:
    """Whether the optimizers divide gradients by the root of their second moments; False if that is not known.

    Raises:
        ConfigError: some do and others do not.
    """
    kinds = {bool(state.optimizer.adaptive): state for state in known.values()}
    if len(kinds) > 1:
        found = " and ".join(f"{state.optimizer.name} ({state.file})" for state in kinds.values())
        remedy = "set gradients.optimizer=adam or gradients.optimizer=sgd"
        raise ConfigError(Problem("checkpoints", f"models trained by {found}", "one kind of optimizer", remedy))
    return next(iter(kinds))


def _plain(state: TrainedBy) -> OptimizerChoice:
    """The choice for an optimizer that is not adaptive, or not known."""
    line = f"{state.optimizer.name}, by the state in {state.file}: gradients are not scaled"
    if state.optimizer.adaptive is False:
        return OptimizerChoice(False, line=line)
    hint = "gradients.optimizer=adam if the optimizer divides gradients by the root of their second moments"
    return OptimizerChoice(False, line=f"{line}; set {hint} (otherwise sgd)", question=f"{hint} (otherwise sgd)")


def _describe(usable: Mapping[Path, TrainedBy], selected: Collection[str]) -> str:
    first = next(iter(usable.values()))
    more = f" and {len(usable) - 1} more" if len(usable) > 1 else ""
    without = [name for name in selected if any(name not in (state.entries or {}) for state in usable.values())]
    unchanged = (
        f"; no step has changed {len(without)} of {counted(len(selected), 'parameter')} ({without[0]})" if without else ""
    )
    file = f"{first.file.parent.name}/{first.file.name}"  # a row of doctor's table
    return f"{first.optimizer.name}: gradients are scaled by its own second moments, from {file}{more}{unchanged}"


def _why_samples(states: Mapping[Path, TrainedBy | None], moments: str | None) -> str:
    """Why the second moments of an optimizer are estimated."""
    name = next((state.optimizer.name for state in states.values() if state is not None), "Adam")
    if moments == "samples":
        return f"{name}, and gradients.moments=samples"
    lacking = {path: state for path, state in states.items() if state is None or state.entries is None}
    path, state = next(iter(lacking.items()))
    count = f"{len(lacking)} of {counted(len(states), 'checkpoint')}, " if 1 < len(states) != len(lacking) else ""
    return f"{name}, without its own second moments ({count}{state.file if state else path}: {_reason(state)})"


def _unusable(path: Path, state: TrainedBy | None) -> Problem:
    expected = "second moments for gradients.moments=checkpoint"
    remedy = "set gradients.moments=samples to estimate them"
    return Problem(str(state.file if state else path), _reason(state), expected, remedy)


def _reason(state: TrainedBy | None) -> str:
    return "no optimizer state" if state is None else state.reason
