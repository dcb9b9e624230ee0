"""N processes share the units between them; nothing is left over, whatever the array's list or step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.cluster.environment import local_rank
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


def test_a_single_process_takes_all_units() -> None:
    assert share_from(None, None, {}).of(UNITS) == UNITS


@pytest.mark.parametrize("environment", [{}, {"SLURM_ARRAY_TASK_ID": "9"}, {"RANK": "1", "WORLD_SIZE": "2"}])
def test_the_config_decides_over_the_environment(environment: dict[str, str]) -> None:
    assert share_from(1, 4, environment).of(UNITS) == UNITS[1::4]


@pytest.mark.parametrize(("index", "count"), [(0, None), (3, 3), (-1, 2)])
def test_half_a_division_is_refused(index: int | None, count: int | None) -> None:
    with pytest.raises(ConfigError, match="0 <= index < count"):
        share_from(index, count, {})


def test_every_process_begins_with_another_group() -> None:
    units = [(name, number) for name in "abc" for number in range(4)]
    found = [share_from(index, 4, {}).grouped(units, lambda unit: unit[0]) for index in range(4)]
    assert ["".join(groups) for groups in found] == ["abc", "bca", "cab", "abc"]
    assert [groups["b"] for groups in found] == [[("b", index)] for index in range(4)]
    assert share_from(1, 4, {}).grouped([], str) == {}


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


def test_an_irregular_task_list_gives_each_task_its_own_order() -> None:
    shares = [share_from(None, None, environment) for environment in slurm_array([1, 5, 6, 20])]
    orders = [tuple(share.of(UNITS)) for share in shares]
    assert len(set(orders)) == 4
    assert all(sorted(order) == UNITS for order in orders)


def test_a_rerun_of_one_array_task_computes_its_missing_units() -> None:
    [environment] = slurm_array([13])
    assert share_from(None, None, environment).of(UNITS) == UNITS


def test_a_job_step_is_divided_by_its_tasks_but_a_batch_script_is_not() -> None:
    step = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}
    assert share_from(None, None, step).of(UNITS) == UNITS[2::4]
    batch_script = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
    assert share_from(None, None, batch_script).of(UNITS) == UNITS


ARRAYS = {
    "Grid Engine": [
        {"SGE_TASK_ID": str(task), "SGE_TASK_FIRST": "3", "SGE_TASK_LAST": "12", "SGE_TASK_STEPSIZE": "3"}
        for task in (3, 6, 9, 12)
    ],
    "LSF": [{"LSB_JOBINDEX": str(task), "LSB_JOBINDEX_END": "5", "LSB_JOBID": "9"} for task in range(1, 6)],
    "LSF, by the name of the job": [
        {"LSB_JOBINDEX": str(task), "LSB_JOBINDEX_END": "8", "LSB_JOBNAME": "trak[4-8:2]%2"} for task in (4, 6, 8)
    ],
    "LSF, with a step": [
        {"LSB_JOBINDEX": str(task), "LSB_JOBINDEX_END": "10", "LSB_JOBINDEX_STEP": "3"} for task in (1, 4, 7, 10)
    ],
    "AWS Batch": [{"AWS_BATCH_JOB_ARRAY_INDEX": str(i), "AWS_BATCH_JOB_ARRAY_SIZE": "4"} for i in range(4)],
    "Open MPI": [{"OMPI_COMM_WORLD_RANK": str(i), "OMPI_COMM_WORLD_SIZE": "3"} for i in range(3)],
    "MPICH": [{"PMI_RANK": str(i), "PMI_SIZE": "3"} for i in range(3)],
    "MVAPICH": [{"MV2_COMM_WORLD_RANK": str(i), "MV2_COMM_WORLD_SIZE": "2"} for i in range(2)],
    "Flux": [{"FLUX_TASK_RANK": str(i), "FLUX_JOB_SIZE": "2"} for i in range(2)],
    "a Slurm array of MPI jobs": [
        slurm | {"OMPI_COMM_WORLD_RANK": str(i), "OMPI_COMM_WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}
        for slurm in slurm_array([2, 3, 4])
        for i in range(2)
    ],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_every_scheduler_with_an_index_and_a_count_partitions_the_units(name: str) -> None:
    shares = [share_from(None, None, environment) for environment in ARRAYS[name]]
    assert sorted(unit for share in shares for unit in share.of(UNITS)) == UNITS
    assert all(share.count == len(shares) and not share.warning for share in shares)


WITHOUT_COUNT = {
    "PBS": [{"PBS_ARRAY_INDEX": str(i), "PBS_ARRAY_ID": "4[]"} for i in range(1, 5)],
    "Torque": [{"PBS_ARRAYID": str(i)} for i in range(4)],
    "Kubernetes": [{"JOB_COMPLETION_INDEX": str(i)} for i in range(4)],
    "AWS Batch before it told the size": [{"AWS_BATCH_JOB_ARRAY_INDEX": str(i)} for i in range(4)],
    "LSF without an end": [{"LSB_JOBINDEX": str(i)} for i in range(1, 5)],
}


@pytest.mark.parametrize("name", WITHOUT_COUNT)
def test_an_index_without_a_count_visits_all_units_in_an_order_of_its_own(name: str) -> None:
    shares = [share_from(None, None, environment) for environment in WITHOUT_COUNT[name]]
    orders = {tuple(share.of(UNITS)) for share in shares}
    assert len(orders) == 4
    assert all(sorted(order) == UNITS for order in orders)
    assert all("worker.count=N" in share.warning for share in shares)


@pytest.mark.parametrize("name", WITHOUT_COUNT)
def test_the_config_can_add_the_count_that_a_scheduler_does_not_tell(name: str) -> None:
    shares = [share_from(None, 4, environment) for environment in WITHOUT_COUNT[name]]
    assert sorted(unit for share in shares for unit in share.of(UNITS)) == UNITS
    assert not any(share.warning for share in shares)


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1", "WORLD_SIZE": "2"},
        {"SGE_TASK_ID": "1", "SGE_TASK_FIRST": "1", "SGE_TASK_LAST": "5"},
        slurm_array([1, 5, 6, 20])[0],
        {"LSB_JOBINDEX": "5", "LSB_JOBNAME": "trak[1,2,5,9]"},
    ],
)
def test_a_count_that_contradicts_the_scheduler_or_cannot_divide_a_list_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"worker\.count"):
        share_from(None, 4, environment)


def test_a_count_without_any_index_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"worker\.index"):
        share_from(None, 4, {"PBS_JOBID": "5"})


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"SLURM_JOB_ID": "5"}, "Slurm"),
        ({"PBS_JOBID": "5.host"}, "PBS"),
        ({"SGE_TASK_ID": "undefined", "JOB_ID": "5"}, "Grid Engine"),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "0"}, "LSF"),
        ({"AWS_BATCH_JOB_ID": "5"}, "AWS Batch"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "Kubernetes"),
    ],
)
def test_a_scheduler_without_an_index_is_warned_about_unless_the_config_divides(environment: dict[str, str], name: str) -> None:
    share = share_from(None, None, environment)
    assert share.of(UNITS) == UNITS
    assert name in share.warning
    assert "each of them does all of the work" in share.warning
    assert not share_from(0, 2, environment).warning


def test_alone_there_is_nothing_to_warn_about() -> None:
    assert not share_from(None, None, {"HOME": "/root"}).warning


def test_a_variable_that_is_not_a_number_is_named() -> None:
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
        ({"SGE_TASK_ID": "9", "SGE_TASK_FIRST": "1", "SGE_TASK_LAST": "5"}, "SGE_TASK_ID"),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "4", "AWS_BATCH_JOB_ARRAY_SIZE": "4"}, "AWS_BATCH_JOB_ARRAY_INDEX"),
        ({"PBS_ARRAY_INDEX": "first"}, "PBS_ARRAY_INDEX"),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE"),
    ],
)
def test_variables_without_a_worker_number_are_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        share_from(None, None, environment)
    assert [problem.where for problem in refused.value.problems] == [named]


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "3", "SLURM_LOCALID": "0"}, 3),  # torchrun in a Slurm step
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "2", "SLURM_LOCALID": "0"}, 2),
        ({"SLURM_LOCALID": "1"}, 1),
    ],
)
def test_the_rank_on_a_node_is_that_of_the_innermost_launcher(variables: dict[str, str], rank: int) -> None:
    assert local_rank(variables) == rank


def test_a_rank_on_a_node_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="LOCAL_RANK"):
        local_rank({"LOCAL_RANK": "first"})
