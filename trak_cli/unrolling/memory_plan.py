"""Which states and graphs of a training are kept in memory while it is differentiated."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trak_cli.errors import ConfigError, Problem

_MIB = 2**20

#: States beside the kept ones and the adjoints: the current one, the next one, and the result of a backward pass.
_WORKING_STATES = 4


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


def plan(steps: int, state_bytes: int, graph_bytes: int, targets: int, budget_mb: float) -> MemoryPlan:
    """The plan with the fewest repeated steps within a budget in MiB.

    Args:
        state_bytes: of a state of the training, and of the adjoint of a target.
        graph_bytes: of the graph of a step.

    Raises:
        ConfigError: the budget is too small for one step.
    """
    working = (targets + _WORKING_STATES) * state_bytes + graph_bytes  # a backward pass takes about as much as its graph
    free = budget_mb * _MIB - working
    least = graph_bytes + (steps - 1).bit_length() * state_bytes  # each level halves the steps
    if free < least:
        needed = math.ceil((working + least) / _MIB)
        found = f"{budget_mb:g}"
        expected = f"at least {needed}, for {targets} targets, a state of the training and the graph of a step"
        raise ConfigError(Problem("unroll.memory_mb", found, expected, f"set unroll.memory_mb={needed} or more"))
    if free >= steps * graph_bytes:
        return MemoryPlan(steps, 0, 0)
    root = free**2 - 4 * state_bytes * steps * graph_bytes
    if root >= 0:  # graphs · graph_bytes + steps / graphs · state_bytes = free
        graphs = max(1, int((free + math.sqrt(root)) / (2 * graph_bytes)))
        snapshots = math.ceil(steps / graphs) - 1
        if graphs * graph_bytes + snapshots * state_bytes <= free:
            return MemoryPlan(graphs, snapshots, 1)
    for graphs in range(max(1, int(free / (2 * graph_bytes))), 0, -1):
        slots = int((free - graphs * graph_bytes) / state_bytes)
        for levels in range(1, slots + 1):
            if graphs * (slots // levels + 1) ** levels >= steps:
                return MemoryPlan(graphs, slots // levels, levels)
    raise RuntimeError("a budget for one graph and a state for each halving of the steps is enough")


def target_block(state_bytes: int, graph_bytes: int, budget_mb: float) -> int:
    """How many targets share a sweep: their adjoints take at most half of what a step leaves of the budget, one at least."""
    free = budget_mb * _MIB - _WORKING_STATES * state_bytes - 2 * graph_bytes
    return max(1, int(free / 2 / state_bytes))


def cuts(start: int, stop: int, plan: MemoryPlan) -> list[int]:
    """The steps before which states are kept, evenly spaced in start < s < stop; none if the graphs of all steps fit."""
    length = stop - start
    if length <= plan.graphs:
        return []
    parts = min(plan.snapshots + 1, math.ceil(length / plan.graphs))
    return [stop - math.ceil(length * part / parts) for part in range(parts - 1, 0, -1)]
