"""Builds models with the plugin, loads checkpoints in training mode, and puts each model into evaluation mode once.

Every checkpoint gets a new model. A module may merge weights when it is put into evaluation mode, or keep values that it has
computed from its weights, so a model that has been used cannot be trusted with other weights.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.autograd_settings import as_in_evaluation
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.numerics import exact
from trak_cli.plugins.checkpoints.batch_statistics import recompute_statistics
from trak_cli.plugins.checkpoints.derived import derive
from trak_cli.plugins.checkpoints.fresh_weights import require_fresh_weights
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.plugins.model_state import evaluated, uninitialised
from trak_cli.plugins.placement import Placement, empty_parameters
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.microbatches import FOR_MEMBERS, TrainingBatches
from trak_cli.tasks import Task
from trak_cli.user_errors import report_user_errors


class Models:
    """Builds models and holds the one in use.

    Args:
        plugin: returns a model as the plugin of the config builds it.
        task: calls the model, where modules are lazy or a member needs statistics.
        batches: of the training set, for lazy modules and for statistics under the weights of members.
        device: where models are.
        placement: where their parts are instead; None: all on ``device``.

    Attributes:
        checkpoints: those of the run, after :meth:`check`.
        unblended: the model of the checkpoint from which the one in use is derived, if that has weights blended with fresh
            ones, whose outputs mean nothing; None otherwise.
        key: where in the file the weights of the checkpoint lie that was loaded last; "." for the outermost mapping.
    """

    def __init__(
        self,
        plugin: Callable[[], nn.Module],
        task: Task,
        batches: TrainingBatches,
        device: torch.device,
        placement: Placement | None = None,
    ) -> None:
        self._plugin = plugin
        self._task = task
        self._batches = batches
        self._device = device
        self._placement = placement
        self._current: nn.Module | None = None
        self._checkpoint: Checkpoint | None = None
        self.checkpoints: Sequence[Checkpoint] = ()
        self.unblended: nn.Module | None = None
        self.key = "."
        self._restored: frozenset[str] = frozenset()
        self._created_by_call = False
        self._checked: tuple[Checkpoint, nn.Module] | None = None

    @property
    def current(self) -> nn.Module:
        """The model in use: in evaluation mode, with the weights of the checkpoint that was loaded last."""
        if self._current is None:
            raise RuntimeError("no checkpoint is loaded")
        return self._current

    @property
    def placed(self) -> bool:
        """Whether parts of the model may lie on other devices."""
        return self._placement is not None

    def build(self) -> nn.Module:
        """A new model on the device, in training mode, with all parameters initialised; without memory if it is placed later.

        Raises:
            InputError: the plugin raises an exception or returns no module, or a lazy module stays uninitialised.
        """
        with report_user_errors("model", library=True):
            with nullcontext() if self._placement is None else empty_parameters():
                model = self._plugin()
            model = model if model.training else model.train()
            model = model if self._placement is not None else model.to(self._device)
        if self._placement is not None and uninitialised(model):
            remedy = "remove device_map, or give the layers their sizes"
            raise InputError(Problem("device_map", "a model with lazy modules", "a model whose weights have shapes", remedy))
        if self._created_by_call or uninitialised(model):
            _call_once(model, self._task, self._batches.first())
        return model

    def check(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Refuse checkpoints that do not fit the model, before any features are computed.

        Raises:
            InputError: each file that does not fit; members need fresh weights that the plugin does not give.
        """
        self.checkpoints = checkpoints
        files = [checkpoint for checkpoint in checkpoints if checkpoint.member is None]
        model = self.build()
        problems = self._misfits(model, files)
        if problems and self._placement is not None:
            raise InputError(problems)
        if problems and not self._fit_after_a_call(set(model.state_dict()), files):
            raise InputError(problems)
        if any(checkpoint.blended for checkpoint in checkpoints):
            require_fresh_weights(self.build)
        if len(files) == 1 and not problems:
            self._checked = files[0], model

    def _fit_after_a_call(self, names: Collection[str], files: Sequence[Checkpoint]) -> bool:
        """Whether the model creates modules in its first call, and all files fit afterwards; ``names``: its names before."""
        self._created_by_call = True
        with suppress(InputError):
            model = self.build()
            return set(model.state_dict()) != set(names) and not self._misfits(model, files)
        return False

    def load(self, checkpoint: Checkpoint) -> None:
        """Put a new model with the weights of ``checkpoint`` into use; the previous one is released first.

        Raises:
            InputError: the checkpoint does not fit, or the model cannot be put into evaluation mode.
        """
        self._release()
        known, self._checked = self._checked, None
        model = known[1] if known is not None and known[0] is checkpoint else self._loaded(checkpoint)
        del known
        if self._placement is not None:
            self._placement.place(model)
        evaluated(model)
        if checkpoint.member is not None:
            call, frozen = partial(_call, model, self._task), not checkpoint.member.blended  # blends keep frozen weights
            with report_user_errors(f"model, called with samples of train {FOR_MEMBERS}", library=True), exact():
                recompute_statistics(model, call, self._batches.spread(), frozen=frozen)
        self._restore(model)
        if checkpoint.blended:
            self.unblended = evaluated(self._loaded(replace(checkpoint, member=None)))
            self._restore(self.unblended)
        self._current, self._checkpoint = model, checkpoint

    def reload(self) -> None:
        """Put a new model with the weights of the same checkpoint into use."""
        if self._checkpoint is None:
            raise RuntimeError("no checkpoint is loaded")
        self.load(self._checkpoint)

    def _loaded(self, checkpoint: Checkpoint) -> nn.Module:
        """A new model with the weights of ``checkpoint``, in training mode."""
        model = self.build()
        self.key = self._load(model, checkpoint)
        return model

    def _load(self, model: nn.Module, checkpoint: Checkpoint) -> str:
        """Load a checkpoint, and return the key of the weights in its file."""
        with report_user_errors(f"{checkpoint.path}, loaded into the model", library=True):
            state, assign = load(checkpoint.path, checkpoint.allow), self._placement is not None
            place = apply(model, state, checkpoint.path, checkpoint.key, assign=assign)
            if checkpoint.member is not None:
                with as_in_evaluation(model):  # a parametrized weight may change when it is read in training mode
                    derive(model, checkpoint.member, checkpoint.sha256, self.build)
        return "." if all(own == name for own, name in place.names.items()) else place.key

    def _misfits(self, model: nn.Module, files: Sequence[Checkpoint]) -> list[Problem]:
        """The problems of all files that cannot be loaded into the model."""
        problems: list[Problem] = []
        for checkpoint in files:
            try:
                self._load(model, checkpoint)
            except InputError as error:
                problems += error.problems
        return problems

    def _restore(self, model: nn.Module) -> None:
        """Make the model restore the buffers of :meth:`restore_buffers`."""
        for name, module in model.named_modules():
            own = {local: value for local, value in module.named_buffers(name, recurse=False) if local in self._restored}
            if own:
                module.register_forward_pre_hook(partial(_put_back, {key: value.clone() for key, value in own.items()}))

    def in_training_mode(self) -> nn.Module:
        """A new model with the weights of the same checkpoint, in training mode; the model in use is released."""
        if self._checkpoint is None:
            raise RuntimeError("no checkpoint is loaded")
        self._release()
        model = self._loaded(self._checkpoint)
        if self._placement is not None:
            self._placement.place(model)
        return model

    def _release(self) -> None:
        """Drop the model in use, before the next one is built."""
        modules = [] if self._current is None else [weakref.ref(module) for module in self._current.modules()]
        self._current = self.unblended = None
        if any(module() is not None for module in modules):
            gc.collect()  # modules and their hooks form reference cycles; otherwise this would only cost time

    def restore_buffers(self, names: Collection[str]) -> None:
        """Make models that are loaded later restore these buffers before each call of the modules that own them."""
        self._restored = frozenset(names)


def _put_back(buffers: Mapping[str, Tensor], module: nn.Module, _: Any) -> None:
    """A forward pre-hook. A copy replaces each buffer, because an autograd graph may hold the previous one."""
    for name, value in buffers.items():
        module._buffers[name.rpartition(".")[2]] = value.clone()


def _call_once(model: nn.Module, task: Task, batch: Any) -> None:
    """Give the parameters and buffers of lazy modules their shapes, and let a model create its modules."""
    where = "model, called once because it has lazy modules"
    with report_user_errors(where, library=True), as_in_evaluation(model), torch.no_grad():
        _call(model, task, batch)
    names = uninitialised(model)
    if names:
        found = f"{', '.join(names[:3])}, uninitialised after one batch"
        remedy = "remove the lazy modules that the task does not use, or give them their sizes"
        raise InputError(Problem("model", found, "parameters with shapes", remedy))


def _call(model: nn.Module, task: Task, batch: Any) -> None:
    if task.context_rows(1):  # the task has no output before its context
        task.context(model, [batch])
    else:
        task.output(model, batch)
