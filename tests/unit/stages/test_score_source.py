"""Sets of scores that are evaluated: their sums and their highest scores, and the targets that all of them have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from trak_cli.config.schema import LdsConfig
from trak_cli.errors import ConfigError, InputError
from trak_cli.stages.evaluation.evaluated_targets import EvaluatedTargets
from trak_cli.stages.evaluation.score_source import ScoreSource
from trak_cli.stages.evaluation.target_choice import choose_targets
from trak_cli.types import Float32, Rows

ROWS = 37


def make_source(targets: list[int], group: bool = False, seed: int = 0, block: tuple[int, int] = (2, 5)) -> ScoreSource:
    """Random scores with ties, read in blocks of any size, the later ones first."""
    generator = np.random.default_rng(seed)
    values = generator.integers(-4, 5, (1 if group else len(targets), ROWS)).astype(np.float32)

    def blocks() -> Iterator[tuple[Rows, Rows, Float32]]:
        for row in reversed(range(0, ROWS, block[1])):
            rows = Rows(row, min(row + block[1], ROWS))
            for target in range(0, len(values), block[0]):
                at = Rows(target, min(target + block[0], len(values)))
                yield at, rows, values[at.start : at.stop, rows.start : rows.stop]

    return ScoreSource(f"scores {seed}", f"file {seed}", 1, np.array(targets), group, ROWS, blocks)


def dense(source: ScoreSource) -> np.ndarray:
    values = np.empty((1 if source.group else len(source.targets), ROWS))
    for at, rows, block in source.blocks():
        values[at.start : at.stop, rows.start : rows.stop] = block
    return values


@pytest.mark.parametrize("block", [(1, 1), (2, 5), (2, 50), (3, 36), (50, 50)])
@pytest.mark.parametrize("rows", [(4,), (1, 8), (0, 1, 4, 8, 9)])
def test_highest_scores_and_sums_are_those_of_the_whole_matrix(rows: tuple[int, ...], block: tuple[int, int]) -> None:
    source = make_source([9, 4, 0, 8, 1], block=block)
    values = dense(source)[[[9, 4, 0, 8, 1].index(row) for row in rows]]
    weights = np.random.default_rng(1).uniform(0, 2, (6, ROWS)).astype(np.float32)
    for group, expected in ((False, values), (True, values.mean(axis=0, keepdims=True))):
        targets = EvaluatedTargets(rows, group)
        np.testing.assert_array_equal(source.top(targets, 7), np.argsort(-expected, axis=1, kind="stable")[:, :7])
        np.testing.assert_allclose(source.sums(targets, weights), expected @ weights.T.astype(float), rtol=1e-6)


def test_scores_of_a_group_have_one_row() -> None:
    source = make_source([5, 2], group=True)
    targets = EvaluatedTargets((2, 5), True)
    values = dense(source)
    np.testing.assert_array_equal(source.top(targets, 4), np.argsort(-values, axis=1, kind="stable")[:, :4])
    masks = np.random.default_rng(1).random((3, ROWS)) < 0.5
    np.testing.assert_allclose(source.sums(targets, masks), values @ masks.T)


def test_targets_are_those_that_everything_has() -> None:
    sources = [make_source(list(range(12))), make_source([7, 3, 9], seed=1), make_source([9, 2, 7], seed=2)]
    assert choose_targets(LdsConfig(), "test", 12, sources) == EvaluatedTargets((7, 9), False)
    assert choose_targets(LdsConfig(group=True), "test", 12, sources[:2]) == EvaluatedTargets((3, 7, 9), True)
    assert choose_targets(LdsConfig(), "test", 12, []).rows == tuple(range(12))
    with pytest.raises(InputError, match="no target in common"):
        choose_targets(LdsConfig(), "test", 12, [make_source([1]), make_source([2], seed=1)])


def test_named_targets_must_be_there() -> None:
    source = make_source([7, 3, 9])
    assert choose_targets(LdsConfig(targets=[9, 7]), "test", 12, [source]).rows == (7, 9)
    with pytest.raises(InputError, match="no scores of 1 of the targets: rows 2"):
        choose_targets(LdsConfig(targets=[9, 2]), "test", 12, [source])
    for wrong in ([12], [], [3, 3]):
        with pytest.raises(ConfigError, match=r"lds\.targets"):
            choose_targets(LdsConfig(targets=wrong), "test", 12, [source])


def test_scores_of_a_group_are_evaluated_on_that_group_only() -> None:
    group, single = make_source([7, 3, 9], group=True), make_source(list(range(12)), seed=1)
    assert choose_targets(LdsConfig(group=True), "test", 12, [single, group]) == EvaluatedTargets((3, 7, 9), True)
    with pytest.raises(InputError, match=r"lds\.group=true"):
        choose_targets(LdsConfig(), "test", 12, [single, group])
    with pytest.raises(InputError, match="the group that is evaluated: 2 targets"):
        choose_targets(LdsConfig(group=True, targets=[3, 7]), "test", 12, [group])
    with pytest.raises(InputError, match="scores of the mean output over 2 targets"):
        choose_targets(LdsConfig(group=True), "test", 12, [group, make_source([1, 2], group=True, seed=3)])
