"""Which targets are evaluated: ``lds.targets`` and ``lds.group``, and those that every set of scores has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trak_cli.config.schema import LdsConfig
from trak_cli.errors import InputError, Problem
from trak_cli.plurals import counted
from trak_cli.stages.evaluation.evaluated_targets import EvaluatedTargets
from trak_cli.stages.evaluation.score_source import ScoreSource
from trak_cli.stages.index.chosen_rows import choose_rows
from trak_cli.types import listed


def choose_targets(config: LdsConfig, split: str, total: int, scored: Sequence[ScoreSource]) -> EvaluatedTargets:
    """The targets that every set of scores has, or those of ``lds.targets``.

    Args:
        split, total: the target split, and its number of rows.
        scored: the sets of scores that are evaluated.

    Raises:
        ConfigError: ``lds.targets`` has a row twice, or one that the split does not have.
        InputError: a set of scores lacks targets, or is of another group.
    """
    groups = [one for one in scored if one.group]
    if groups and not config.group:
        raise InputError([_a_group(one) for one in groups])
    if config.targets is not None:
        rows = sorted(choose_rows("lds", config.targets, split, total))
    elif groups:
        rows = sorted(groups[0].targets.tolist())
    else:
        common = set(range(total)).intersection(*(one.targets.tolist() for one in scored))
        rows = sorted(common)
    problems = [_other_group(one, rows) for one in groups if sorted(one.targets.tolist()) != rows]
    problems += _lacking((one for one in scored if not one.group), rows)
    if not rows and not problems:
        found = "sets of scores that have no target in common"
        expected = "at least one target that all of them score"
        problems.append(Problem(", ".join(one.where for one in scored), found, expected, "evaluate them one by one"))
    if problems:
        raise InputError(problems)
    return EvaluatedTargets(tuple(rows), config.group)


def _lacking(scored: Iterable[ScoreSource], rows: Sequence[int]) -> list[Problem]:
    problems = []
    for one in scored:
        lacking = sorted(set(rows) - set(one.targets.tolist()))
        if lacking:
            found = f"no scores of {len(lacking)} of the targets: rows {listed([str(row) for row in lacking])}"
            remedy = f"give lds.targets=[{','.join(map(str, one.targets[:3]))},…], rows that it has, or score these targets too"
            problems.append(Problem(one.where, found, "scores of all evaluated targets", remedy))
    return problems


def _a_group(one: ScoreSource) -> Problem:
    found = f"scores of the mean output over {counted(len(one.targets), 'target')}"
    return Problem(one.where, found, "scores of single targets, because lds.group is false", "give lds.group=true")


def _other_group(one: ScoreSource, rows: Sequence[int]) -> Problem:
    found = f"scores of the mean output over {counted(len(one.targets), 'target')}, {listed([str(row) for row in one.targets])}"
    expected = f"the group that is evaluated: {counted(len(rows), 'target')}, {listed([str(row) for row in rows])}"
    return Problem(one.where, found, expected, "leave out lds.targets, and evaluate one group at a time")
