"""Which states and graphs of a training are kept in memory while it is differentiated."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trak_cli.errors import ConfigError, Problem
from trak_cli.plurals import counted

_MIB = 2**20

#: States beside the kept ones and the adjoints: the first, the last, the current and the next one.
_WORKING_STATES = 4


@dataclass(frozen=True)
class Needs:
    """Bytes that the largest step of a training takes.

    Attributes:
        state: of a state of the training, and of the adjoint of a target.
        graph: of a kept graph, with the state after its step.
        step: of tensors that exist for a short time while a step is made or differentiated, for one target.
        checks: of everything that exists while the training is checked, before its first step.
    """

    state: int
    graph: int
    step: int = 0
    checks: int = 0


@dataclass(frozen=True)
class Budget:
    """Memory in MiB, and the part of it that the caller needs for something else: always, and for each target of a sweep."""

    memory_mb: float
    reserved_mb: float = 0.0
    target_mb: float = 0.0

    def free(self, targets: int) -> float:
        """The bytes that are left."""
        return (self.memory_mb - self.reserved_mb - targets * self.target_mb) * _MIB


@dataclass(frozen=True)
class MemoryPlan:
    """How a sweep goes back through the steps.

    A sequence of steps is cut by ``snapshots`` kept states into parts, and these again, up to ``levels`` times. The parts of
    the last level have at most ``graphs`` steps, whose graphs are kept together. Each level costs a training, and so do the
    graphs that are not kept from the first pass.
    """

    graphs: int
    snapshots: int
    levels: int


def plan(steps: int, needs: Needs, targets: int, budget: Budget) -> MemoryPlan:
    """The plan with the fewest repeated steps within a budget.

    Raises:
        ConfigError: the budget is too small for one step, or for the checks before the training.
    """
    state, graph = needs.state, needs.graph
    working = _working(needs, targets)
    free = budget.free(targets) - working
    least = graph + (steps - 1).bit_length() * state  # each level halves the steps
    if free < least or budget.free(targets) < needs.checks:
        total = budget.memory_mb + (max(working + least, needs.checks) - budget.free(targets)) / _MIB
        needed = math.ceil(total)
        expected = f"at least {needed}, for {counted(targets, 'target')}, a state of the training and the graph of a step"
        remedy = f"set unroll.memory_mb={needed} or more"
        raise ConfigError(Problem("unroll.memory_mb", f"{budget.memory_mb:g}", expected, remedy))
    if free >= steps * graph:
        return MemoryPlan(steps, 0, 0)
    root = free**2 - 4 * state * steps * graph
    if root >= 0:  # graphs · graph + steps / graphs · state = free
        graphs = max(1, int((free + math.sqrt(root)) / (2 * graph)))
        snapshots = math.ceil(steps / graphs) - 1
        if graphs * graph + snapshots * state <= free:
            return MemoryPlan(graphs, snapshots, 1)
    for graphs in range(max(1, int(free / (2 * graph))), 0, -1):
        slots = int((free - graphs * graph) / state)
        for levels in range(1, slots + 1):
            if graphs * (slots // levels + 1) ** levels >= steps:
                return MemoryPlan(graphs, slots // levels, levels)
    raise RuntimeError("a budget for one graph and a state for each halving of the steps is enough")


def target_block(needs: Needs, budget: Budget) -> int:
    """How many targets share a sweep: their adjoints take at most half of what a step leaves of the budget, one at least."""
    free = budget.free(0) - _working(needs, 0) - needs.graph
    return max(1, int(free / 2 / (needs.state + budget.target_mb * _MIB)))


def _working(needs: Needs, targets: int) -> int:
    return (targets + _WORKING_STATES) * needs.state + needs.step


def cuts(start: int, stop: int, plan: MemoryPlan) -> list[int]:
    """The steps before which states are kept, evenly spaced in start < s < stop; none if the graphs of all steps fit."""
    length = stop - start
    if length <= plan.graphs:
        return []
    parts = min(plan.snapshots + 1, math.ceil(length / plan.graphs))
    return [stop - math.ceil(length * part / parts) for part in range(parts - 1, 0, -1)]
