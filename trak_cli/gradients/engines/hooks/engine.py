"""The hooks engine: one ordinary forward and backward pass, then per-sample gradients layer by layer, computed on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size, refuse_joined
from trak_cli.errors import InputError
from trak_cli.gradients.contract import ModelOutput, PerSample, as_real
from trak_cli.gradients.engines.hooks.batch_dims import Axes, Survey, survey
from trak_cli.gradients.engines.hooks.graph_coverage import reached
from trak_cli.gradients.engines.hooks.recorder import Call, NotSeparableError, Recorder
from trak_cli.gradients.engines.hooks.recurrent_calls import recurrent_blocks
from trak_cli.gradients.engines.hooks.shares import check_shares, joined, rule_arguments
from trak_cli.gradients.engines.hooks.strategies import LOOP, UNUSED, VMAP, Strategies, first_strategies, forms_in, owners
from trak_cli.gradients.engines.hooks.vmap_submodule import submodule_blocks
from trak_cli.gradients.engines.vmap import VmapEngine
from trak_cli.gradients.factoring import NONE, Factoring
from trak_cli.gradients.loop import LoopEngine, one_microbatch
from trak_cli.gradients.numerics import computing, exact
from trak_cli.gradients.parameters import only
from trak_cli.gradients.refusals import checked_vector
from trak_cli.gradients.rules.registry import GradientRule, RuleCall, check_block, rule_of
from trak_cli.gradients.transforms.autocast import Autocast
from trak_cli.types import AnyBlock, Block
from trak_cli.user_errors import first_line, is_out_of_memory
from trak_cli.weight_copies import copied_weights


class HooksEngine:
    """Per-sample gradients from the inputs of the model's layers and the gradients at their outputs.

    Memory: the activations of the microbatch and the gradients at the outputs of its layers; per-sample gradients exist one
    piece at a time. A parameter used in several places yields one block per use; the blocks are summed.

    Args:
        strategies: the result of :func:`find_strategies`; None takes the first strategy of each parameter, unchecked.
        factoring: which gradients are given as factors.
    """

    name = "hooks"

    def __init__(
        self,
        model: nn.Module,
        task: ModelOutput,
        parameters: Mapping[str, Tensor],
        strategies: Strategies | None = None,
        factoring: Factoring = NONE,
    ) -> None:
        self._model = model
        self._task = task
        self._parameters = dict(parameters)
        self._factoring = factoring
        chosen = first_strategies(model, parameters) if strategies is None else strategies
        self._forms = forms_in(chosen)
        self.strategies = {name: strategy for name, strategy in chosen.items() if name not in self._forms}
        modules = dict(model.named_modules())
        self._by_rule: dict[str, dict[str, str]] = {}  # module -> a parameter's name in it -> canonical name
        self._by_module: dict[str, dict[str, str]] = {}  # module -> canonical name -> name inside the module
        for name, holders in owners(model, parameters).items():
            strategy = self.strategies.get(name)
            if strategy is None:
                for owner in holders:
                    self._by_rule.setdefault(owner.module, {})[owner.local] = name
            elif not strategy.startswith(":"):
                inside = dict(modules[strategy].named_parameters(remove_duplicate=False))
                local = next(local for local, parameter in inside.items() if parameter is parameters[name])
                self._by_module.setdefault(strategy, {})[name] = local
        self._watched = {name: modules[name] for name in {**self._by_rule, **self._by_module}}
        self._survey: Survey | None = None

    def per_sample(self, batch: Any) -> PerSample:
        """See :class:`Engine`."""
        refuse_joined(batch, self.name)
        with one_microbatch(self._model, batch) as size:
            return self._one_pass(batch, size, _raise)

    def passes(self, name: str, module: str) -> bool:
        """Whether the gradient of a parameter is computed from calls of ``module``, or by the strategy of that name."""
        strategy = self.strategies.get(name)
        return name in self._by_rule.get(module, {}).values() if strategy is None else strategy == module

    def attempt(self, batch: Any, refuse: Callable[[NotSeparableError], None]) -> PerSample:
        """Like :meth:`per_sample`, but a call whose samples do not separate is passed to ``refuse`` and left out."""
        return self._one_pass(batch, batch_size(batch), refuse)

    def calls_with_forms(self, batch: Any) -> Iterator[RuleCall]:
        """The calls of the layers whose rule has several forms for a parameter, without those that do not separate."""
        with exact(), only(self._model, self._followed()), torch.enable_grad():
            outputs, recorder = self._forward(batch, batch_size(batch))
            recorder.backward(outputs, {})
        while recorder.calls:
            call = recorder.calls.pop()
            rule, names = rule_of(call.module), self._by_rule.get(call.site[0], {})
            if rule is not None and rule.forms and names:
                with suppress(NotSeparableError):
                    for x, g in self._rule_arguments([call], rule, batch_size(batch)):
                        if dense := self._dense(rule, g, names):
                            yield RuleCall(call.module, rule, x, g, dense)

    def escaping(self, batch: Any) -> set[str]:
        """The parameters that reach the outputs by a path that the recorded calls do not cover.

        Comparing gradients cannot detect this: if a gate is closed, the missed contribution is zero.
        """
        with exact(), only(self._model, self._followed()), torch.enable_grad():
            return self._escaping(*self._forward(batch, batch_size(batch)))

    def _escaping(self, outputs: Tensor, recorder: Recorder) -> set[str]:
        followed = self._followed()
        through: dict[frozenset[str], list[str]] = {}  # modules -> the parameters that must be reached through them alone
        for name, holders in owners(self._model, followed).items():
            strategy = self.strategies.get(name)
            if strategy != UNUSED:
                watched = {strategy} if strategy is not None else {owner.module for owner in holders}
                through.setdefault(frozenset(watched), []).append(name)
        escaping: set[str] = set()
        for modules, names in through.items():
            leaves = reached(outputs, recorder.nodes(modules))
            escaping |= {name for name in names if id(followed[name]) in leaves}
        return escaping

    def _followed(self) -> dict[str, Tensor]:
        """The parameters whose gradients are computed from the recorded pass."""
        return self._computed_by(lambda strategy: strategy not in (VMAP, LOOP))

    def _computed_by(self, condition: Callable[[str | None], bool]) -> dict[str, Tensor]:
        """The parameters whose strategy (None: by rules) meets a condition."""
        return {name: value for name, value in self._parameters.items() if condition(self.strategies.get(name))}

    def _forward(self, batch: Any, size: int) -> tuple[Tensor, Recorder]:
        if self._survey is None:
            self._survey = survey(self._model, self._task, batch, self._watched)
        with Recorder(self._watched, size, self._survey.expand, self._survey.doubtful) as recorder:
            return checked_vector(self._task.output(self._model, batch), size, "output"), recorder

    def _one_pass(self, batch: Any, size: int, refuse: Callable[[NotSeparableError], None]) -> PerSample:
        followed, surveyed = self._followed(), self._survey is not None
        with only(self._model, followed), torch.enable_grad():
            outputs, recorder = self._forward(batch, size)
            # The strategies may have been found under another checkpoint, so the first batch is checked again.
            for name in () if surveyed else self._escaping(outputs, recorder):
                where = self.strategies.get(name, name.rpartition(".")[0])
                refuse(NotSeparableError((where, 0), f"a use of {name} outside it that the first samples did not have"))
            recorder.backward(outputs, self._computed_by(lambda strategy: strategy == UNUSED))
        outputs = outputs.detach()
        with torch.no_grad():
            ratio = self._task.out_to_loss_grad(self._model, batch, outputs)
        ratio = checked_vector(ratio, size, "out_to_loss_grad").detach()
        return PerSample(outputs, ratio, self._blocks(recorder.calls, batch, outputs, refuse))

    def _blocks(
        self, calls: list[Call], batch: Any, outputs: Tensor, refuse: Callable[[NotSeparableError], None]
    ) -> Iterator[AnyBlock]:
        size = len(outputs)
        first, parameter = next(iter(self._parameters.items()))
        # A projector needs a block, even if no output has a layer.
        yield Block(first, as_real(parameter).new_zeros(size, 0, device=outputs.device))
        while calls:
            call = calls.pop()  # the last layer first; its tensors are freed
            module, several = call.site[0], [call]
            if module in self._by_rule:
                several += [other for other in calls if other.site[0] == module]
                calls[:] = [other for other in calls if other.site[0] != module]
            try:
                with copied_weights(call.module, _device_of(several) or outputs.device):
                    yield from computing(self._of_module(several, size))
            except NotSeparableError as error:
                refuse(error)
            except RuntimeError as error:  # the rule does not cover this use of the layer
                if is_out_of_memory(error):
                    raise
                refuse(NotSeparableError(call.site, first_line(error)))
        for strategy, engine in ((VMAP, VmapEngine), (LOOP, LoopEngine)):
            parameters = {name: value for name, value in self._parameters.items() if self.strategies.get(name) == strategy}
            if not parameters:
                continue
            try:
                yield from engine(self._model, self._task, parameters).per_sample(batch).blocks
            except InputError as error:
                refuse(NotSeparableError((strategy, 0), "; ".join(problem.found for problem in error.problems)))

    def _of_module(self, calls: list[Call], size: int) -> Iterator[AnyBlock]:
        """The blocks of calls of one module, which are freed."""
        called, module = calls[0].module, calls[0].site[0]
        for call in calls if module in self._by_module else ():
            if any(gradient is not None for gradient in call.gradients):
                axes = self._axes(call)
                check_shares(call, axes, size)
                yield from submodule_blocks(call, axes, self._by_module[module], size, isinstance(self._task, Autocast))
        names = self._by_rule.get(module)
        if not names:
            return
        rule = rule_of(called)
        if rule is None:
            yield from recurrent_blocks(calls, self._axes, names, size)
            return
        for x, g in joined(self._rule_arguments(calls, rule, size)):
            yield from self._by_one_rule(called, rule, x, g, names)

    def _rule_arguments(self, calls: list[Call], rule: GradientRule, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Input and output gradient of each call of one layer; the calls are freed."""
        dtype = next(calls[0].module.parameters(recurse=False)).dtype
        while calls:
            call = calls.pop(0)
            if any(gradient is not None for gradient in call.gradients):
                axes = self._axes(call)
                check_shares(call, axes, size)
                yield rule_arguments(call, axes, size, dtype, rule.batch_first)

    def _by_one_rule(
        self, module: nn.Module, rule: GradientRule, x: Tensor, g: Tensor, names: Mapping[str, str]
    ) -> Iterator[AnyBlock]:
        dense = self._dense(rule, g, names)
        if len(dense) < len(names) and rule.factors is not None:
            yield from rule.factors(module, x, g, names["weight"])
        form = next((self._forms[name] for name in dense.values() if name in self._forms), None)
        for block in rule.form(form)(module, x, g, dense) if dense else ():
            check_block(block, rule, {name: self._parameters[name].numel() for name in dense.values()})
            yield block

    def _dense(self, rule: GradientRule, g: Tensor, names: Mapping[str, str]) -> Mapping[str, str]:
        """The parameters of a layer, (name in it -> canonical name), whose gradients are not given as factors."""
        weight = names.get("weight")
        if weight is None or not self._factoring.applies(rule, g, weight, self._parameters[weight]):
            return names
        return {local: name for local, name in names.items() if name != weight}

    def _axes(self, call: Call) -> Axes:
        """The batch axes of a call.

        Raises:
            NotSeparableError: they are unclear, or the model has overwritten an input of the call.
        """
        assert self._survey is not None
        axes = self._survey.axes.get(call.site)
        if axes is None or axes.unclear:
            raise NotSeparableError(call.site, "it is not clear which axis counts samples")
        call.check_unchanged()
        return axes


def _device_of(calls: list[Call]) -> torch.device | None:
    """The device on which the layer of these calls has computed; None if nothing depends on its outputs."""
    return next((gradient.device for call in calls for gradient in call.gradients if gradient is not None), None)


def _raise(error: NotSeparableError) -> None:
    raise error
