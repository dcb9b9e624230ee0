"""N processes share the units between them; nothing is left over, whatever the array's list or step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.cluster.share import share_from
from trak_cli.errors import ConfigError

UNITS = list(range(23))


def slurm_array(tasks: list[int], step: int = 1) -> list[dict[str, str]]:
    return [
        {
            "SLURM_ARRAY_JOB_ID": "77",
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_COUNT": str(len(tasks)),
            "SLURM_ARRAY_TASK_MIN": str(min(tasks)),
            "SLURM_ARRAY_TASK_MAX": str(max(tasks)),
            "SLURM_ARRAY_TASK_STEP": str(step),
        }
        for task in tasks
    ]


def test_alone_a_process_takes_everything() -> None:
    assert share_from(None, None, {}).of(UNITS) == UNITS


@pytest.mark.parametrize("environment", [{}, {"SLURM_ARRAY_TASK_ID": "9"}, {"RANK": "1", "WORLD_SIZE": "2"}])
def test_the_config_decides_over_the_environment(environment: dict[str, str]) -> None:
    assert share_from(1, 4, environment).of(UNITS) == UNITS[1::4]


@pytest.mark.parametrize(("index", "count"), [(0, None), (None, 3), (3, 3), (-1, 2)])
def test_half_a_division_is_refused(index: int | None, count: int | None) -> None:
    with pytest.raises(ConfigError, match="0 <= index < count"):
        share_from(index, count, {})


@settings(deadline=None, max_examples=40)
@given(low=st.integers(0, 50), step=st.integers(1, 7), count=st.integers(1, 9), ranks=st.integers(1, 3))
def test_regular_arrays_with_ranks_partition_the_units(low: int, step: int, count: int, ranks: int) -> None:
    tasks = [low + step * i for i in range(count)]
    taken = [
        unit
        for environment in slurm_array(tasks, step)
        for rank in range(ranks)
        for unit in share_from(None, None, environment | {"RANK": str(rank), "WORLD_SIZE": str(ranks)}).of(UNITS)
    ]
    assert sorted(taken) == UNITS


@settings(deadline=None, max_examples=40)
@given(tasks=st.lists(st.integers(0, 99), min_size=1, max_size=8, unique=True))
def test_any_list_of_array_tasks_covers_the_units(tasks: list[int]) -> None:
    shares = [share_from(None, None, environment) for environment in slurm_array(sorted(tasks))]
    assert {unit for share in shares for unit in share.of(UNITS)} == set(UNITS)


def test_an_irregular_list_gives_every_task_an_order_of_its_own() -> None:
    shares = [share_from(None, None, environment) for environment in slurm_array([1, 5, 6, 20])]
    orders = [tuple(share.of(UNITS)) for share in shares]
    assert len(set(orders)) == 4
    assert all(sorted(order) == UNITS for order in orders)


def test_a_rerun_of_one_array_task_takes_what_is_left() -> None:
    [environment] = slurm_array([13])
    assert share_from(None, None, environment).of(UNITS) == UNITS


def test_a_job_step_is_divided_by_its_tasks_but_a_batch_script_is_not() -> None:
    step = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}
    assert share_from(None, None, step).of(UNITS) == UNITS[2::4]
    batch_script = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
    assert share_from(None, None, batch_script).of(UNITS) == UNITS


def test_a_variable_that_is_no_number_is_named() -> None:
    with pytest.raises(ConfigError, match="WORLD_SIZE"):
        share_from(None, None, {"RANK": "0", "WORLD_SIZE": "many"})


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK, WORLD_SIZE"),
        ({"RANK": "3", "WORLD_SIZE": "2"}, "RANK, WORLD_SIZE"),
        ({"SLURM_PROCID": "-1", "SLURM_STEP_NUM_TASKS": "2"}, "SLURM_PROCID, SLURM_STEP_NUM_TASKS"),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "0"}, "SLURM_ARRAY_TASK_ID"),
        (slurm_array([0, 1, 2, 3])[0] | {"SLURM_ARRAY_TASK_ID": "7"}, "SLURM_ARRAY_TASK_ID"),
    ],
)
def test_variables_that_give_no_place_are_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        share_from(None, None, environment)
    assert [problem.where for problem in refused.value.problems] == [named]
