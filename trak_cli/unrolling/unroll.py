"""Reverse mode through a training: the derivative of f with respect to the weight of every training sample.

Source: Ilyas and Engstrom, MAGIC: Near-Optimal Data Attribution for Deep Learning, 2025.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from trak_cli.autograd_settings import differentiable, twice_differentiable
from trak_cli.errors import InputError, Problem
from trak_cli.types import Meter, Silent
from trak_cli.unrolling.adjoints import final_adjoints
from trak_cli.unrolling.contract import NoStates, Output, StepRun, StoredStates, Target
from trak_cli.unrolling.difference_check import check_derivatives
from trak_cli.unrolling.live_memory import LiveMemory, trim
from trak_cli.unrolling.memory_plan import Budget, MemoryPlan, cuts, plan, target_block
from trak_cli.unrolling.model_state import ModelState, State, packed
from trak_cli.unrolling.probe import probe
from trak_cli.unrolling.step_graph import StepGraph, make_step, make_values
from trak_cli.unrolling.sweep_state import SweepState


class Unrolling:
    """A training that can be differentiated. First call :meth:`forward`, then :meth:`sweep` for each block of targets.

    Results do not depend on the budget: every step is computed in the same way whenever it is repeated.

    Args:
        run: the training, before its first step.
        output: f of every sample of a batch.
        budget: memory for everything that is kept or computed, beside the model and its data.
        targets: the number of targets that the caller has.

    Attributes:
        block: the number of targets of a sweep.

    Raises:
        ConfigError: the budget is too small for one step.
        InputError: the training cannot be differentiated; see :func:`~trak_cli.unrolling.probe.probe` and
            :func:`~trak_cli.unrolling.difference_check.check_derivatives`.
    """

    def __init__(self, run: StepRun, output: Output, budget: Budget, targets: int = 1) -> None:
        self._run, self._output = run, output
        self._model = ModelState(run.model, run.parameters)
        memory = LiveMemory()
        with memory:
            start = self._model.values()
            start |= packed({name: [v.clone() for v in values] for name, values in run.initial_state(run.parameters).items()})
        with self._session():
            found = probe(run, self._model, start, output)
            with memory:
                check_derivatives(run, self._model, start, output)
        needs = replace(found.needs, checks=memory.peak)
        self._plain = found.plain
        self.block = min(targets, target_block(needs, budget))
        self._plan: MemoryPlan = plan(run.steps, needs, self.block, budget)
        self._snapshots: dict[int, State] = {0: start}
        self._graphs: list[StepGraph] = []
        self._final: State | None = None
        trim()

    @property
    def model(self) -> nn.Module:
        """The model; trained after :meth:`forward`."""
        return self._run.model

    def forward(self, meter: Meter | None = None, stored: StoredStates | None = None) -> int:
        """Make all steps, and keep states and the last graphs as the budget allows.

        Args:
            meter: counts steps.
            stored: states of an earlier pass, from which this one goes on; it is offered all others.

        Returns:
            How many steps were made.
        """
        meter, stored = meter or Silent(), stored or NoStates()
        steps, available = self._run.steps, stored.steps()
        wanted = set(cuts(0, steps, self._plan))
        last, position, state, made = max(wanted, default=0), 0, self._snapshots[0], 0
        for stop in [*sorted(wanted), steps]:
            for found in sorted((step for step in available if position < step <= stop), reverse=True):
                if (loaded := stored.load(found, state)) is not None:
                    meter.advance(found - position)
                    position, state = found, loaded
                    break
            kept = max(last, steps - self._plan.graphs)
            for index, after, graph in self._made(position, stop, state, kept):
                state, made = after, made + 1
                if graph is not None:
                    self._graphs.append(graph)
                stored.offer(index + 1, state, index + 1 in wanted or index + 1 == steps)
                meter.advance()
            position = stop
            if stop in wanted:
                self._snapshots[stop] = state
        self._final = state
        self._model.write(state)
        trim()
        return made

    def sweep(
        self, targets: Sequence[Target], start: SweepState | None = None, meter: Meter | None = None
    ) -> Iterator[SweepState]:
        """Go back through the steps with the adjoints of T targets.

        Args:
            targets: at most :attr:`block` of them, for the budget to hold.
            start: the state in which an earlier sweep of the same targets was stopped; its tensors are used, and change.

        Yields:
            The state after each step, the last step first; its tensors change with the next one.

        Raises:
            InputError: f or its derivative is not finite.
        """
        meter = meter or Silent()
        state = self._begin(targets) if start is None else start.moved(self._end)
        for graph in self._backward(state.step):
            with self._twice_differentiable():
                graph.pull(state.adjoint, state.derivative, keep=self._plan.levels == 0)
            state = SweepState(graph.index, state.adjoint, state.derivative)
            del graph  # its memory is needed for the next one
            meter.advance()
            yield state
        _check_finite(state)

    @property
    def _end(self) -> State:
        if self._final is None:
            raise RuntimeError("Unrolling.forward must come first")
        return self._final

    def _begin(self, targets: Sequence[Target]) -> SweepState:
        with self._session():
            adjoint = final_adjoints(self._run.model, self._model, self._end, self._output, targets)
        return SweepState(self._run.steps, adjoint, torch.zeros(len(targets), self._run.rows, dtype=torch.float64))

    def _backward(self, stop: int) -> Iterator[StepGraph]:
        """The graphs of the steps before ``stop``, the last one first."""
        starts = sorted(index for index in self._snapshots if index < stop)
        for begin, end in reversed(list(zip(starts, [*starts[1:], stop], strict=True))):
            yield from self._part(begin, end, self._snapshots[begin])

    def _part(self, start: int, stop: int, before: State) -> Iterator[StepGraph]:
        """The graphs of the steps start ≤ s < stop, the last one first; ``before`` is the state before ``start``."""
        if self._plan.levels == 0:  # all graphs are kept, for the next sweep too
            missing = self._graphs[0].index if self._graphs else stop
            if missing > start:
                self._graphs[:0] = self._remade(start, missing, before)
            yield from reversed(self._graphs[:stop])
            return
        while self._graphs and start < stop:  # the last ones, from the first pass
            last = self._graphs.pop()
            if last.index < stop:
                yield last
                stop = last.index
            del last
        inner = cuts(start, stop, self._plan)
        if not inner:
            graphs = self._remade(start, stop, before)
            while graphs:
                yield graphs.pop()
            return
        kept: dict[int, State] = {start: before}
        for index, state, _ in self._made(start, inner[-1], before, inner[-1]):
            if index + 1 in inner:
                kept[index + 1] = state
        for begin, end in reversed(list(zip([start, *inner], [*inner, stop], strict=True))):
            yield from self._part(begin, end, kept.pop(begin))

    def _remade(self, start: int, stop: int, before: State) -> list[StepGraph]:
        """The graphs of the steps start ≤ s < stop, in order."""
        return [graph for _, _, graph in self._made(start, stop, before, start) if graph is not None]

    def _made(self, start: int, stop: int, before: State, graphs_from: int) -> Iterator[tuple[int, State, StepGraph | None]]:
        """Make the steps start ≤ s < stop, from the state before ``start``; the random states differ until the end.

        Yields:
            The number of each step, the state after it, and from ``graphs_from`` on its graph.
        """
        with self._session():
            for index in range(start, stop):
                graph = None
                if self._plain and index < graphs_from:
                    before = make_values(self._run, self._model, index, before)
                else:
                    graph = make_step(self._run, self._model, index, before)
                    before = graph.values
                yield index, before, graph if index >= graphs_from else None
                del graph  # its memory is needed for the next one

    @contextmanager
    def _session(self) -> Iterator[None]:
        """Inside, steps can be made; afterwards, the model has its own tensors again, and random states are as before."""
        with self._run.session(), self._twice_differentiable():
            try:
                yield
            finally:
                self._model.restore()

    @contextmanager
    def _twice_differentiable(self) -> Iterator[None]:
        """Inside, no operation is used of which PyTorch has another one with a second derivative."""
        with differentiable(self._run.model), twice_differentiable(), sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            yield


def _check_finite(state: SweepState) -> None:
    if not torch.isfinite(state.derivative).all():
        found = "a derivative that is not finite"
        remedy = "lower the learning rate or the number of epochs: small changes of the weights grow from step to step"
        raise InputError(Problem("trainer", found, "a training that depends smoothly on the weights of its samples", remedy))
