"""The index of this process and the number of processes, from the environment variables of schedulers and launchers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trak_cli.errors import ConfigError, Problem

Environment = Mapping[str, str]

#: Variables of rank and number of processes. The first pair that is set is used, so a launcher inside a Slurm step, such as
#: torchrun or mpirun, takes precedence over the step.
_RANKS = (
    ("RANK", "WORLD_SIZE"),  # torchrun
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),  # MVAPICH
    ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI
    ("FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
    ("AWS_BATCH_JOB_NODE_INDEX", "AWS_BATCH_JOB_NUM_NODES"),
    # A batch script runs once, but has SLURM_PROCID=0 and SLURM_NTASKS=n too. Only a step has SLURM_STEP_NUM_TASKS.
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)

#: Variables of the rank among the processes of one node.
_LOCAL_RANKS = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")

#: Variables that show which scheduler runs this process, even if it gives no index.
_SCHEDULERS = {
    "SLURM_JOB_ID": "Slurm",
    "PBS_JOBID": "PBS",
    "SGE_TASK_ID": "Grid Engine",
    "LSB_JOBID": "LSF",
    "AWS_BATCH_JOB_ID": "AWS Batch",
    "KUBERNETES_SERVICE_HOST": "Kubernetes",
    "_CONDOR_JOB_AD": "HTCondor",
    "PMIX_RANK": "PMIx",
}

#: (variable of the index, variable that identifies the array, what the index is) of schedulers that do not give a count.
_INDICES = (
    ("PBS_ARRAY_INDEX", "PBS_ARRAY_ID", "PBS array task"),
    ("PBS_ARRAYID", "PBS_ARRAY_ID", "PBS array task"),  # Torque
    ("JOB_COMPLETION_INDEX", "JOB_NAME", "Kubernetes completion index"),
)

_UNSET = "unset these variables, or give worker.index and worker.count"


@dataclass(frozen=True)
class Place:
    """The place of a process in a job array, or among the processes of one job.

    Attributes:
        index: from 0 if ``count`` is known, else as the scheduler numbers the tasks.
        count: number of tasks; None if the scheduler does not tell it, or the tasks are an irregular list.
        job: identifies the array, as far as the scheduler does.
        source: where the numbers come from, for the log.
        irregular: whether the tasks are a list of numbers without a constant step.
    """

    index: int = 0
    count: int | None = 1
    job: str = ""
    source: str = ""
    irregular: bool = False


def array_place(environment: Environment) -> Place:
    """The task of a job array: of Slurm, Grid Engine, LSF, AWS Batch, PBS or an indexed job of Kubernetes.

    Raises:
        ConfigError: a variable is no number, or contradicts the others.
    """
    for read in (_slurm, _grid_engine, _lsf, _aws_batch, _index_alone):
        place = read(environment)
        if place is not None:
            return place
    return Place()


def rank_place(environment: Environment) -> Place:
    """The rank inside a job that runs several processes: of torchrun, MPI, Flux, an AWS Batch multi-node job or a Slurm step.

    Raises:
        ConfigError: a variable is no number, or contradicts the others.
    """
    for rank, size in _RANKS:
        if rank in environment and size in environment:
            index, count = _number(environment, rank), _number(environment, size)
            if not 0 <= index < count:
                found = f"{rank}={index}, {size}={count}"
                raise ConfigError(Problem(f"{rank}, {size}", found, f"0 <= {rank} < {size}", _UNSET))
            return Place(index, count, source=f"{rank} and {size}")
    return Place()


def local_rank(environment: Environment) -> int:
    """The rank of this process among those of its job on this node; 0 if nothing tells it.

    Raises:
        ConfigError: a variable is no number.
    """
    return next((_number(environment, name) for name in _LOCAL_RANKS if name in environment), 0)


def scheduler(environment: Environment) -> str | None:
    """The name of the scheduler that runs this process; None if none is recognised."""
    return next((name for variable, name in _SCHEDULERS.items() if variable in environment), None)


def _slurm(environment: Environment) -> Place | None:
    name = "SLURM_ARRAY_TASK_ID"
    if name not in environment:
        return None
    task = _number(environment, name)
    count = _number(environment, "SLURM_ARRAY_TASK_COUNT", 1)
    low = _number(environment, "SLURM_ARRAY_TASK_MIN", task)
    high = _number(environment, "SLURM_ARRAY_TASK_MAX", task)
    step = max(1, _number(environment, "SLURM_ARRAY_TASK_STEP", 1))
    if count < 1 or not low <= task <= high:
        raise _contradiction(name, f"task {task} of {count}, numbered {low} to {high}")
    job, source = environment.get("SLURM_ARRAY_JOB_ID", ""), f"Slurm array task {task}"
    if count <= 2:
        return Place(0 if task == low else count - 1, count, job, source)
    if (high - low) % step == 0 and (high - low) // step + 1 == count and (task - low) % step == 0:
        return Place((task - low) // step, count, job, source)
    return Place(task, None, job, f"{source} of an irregular list", irregular=True)


def _grid_engine(environment: Environment) -> Place | None:
    name = "SGE_TASK_ID"
    if environment.get(name, "undefined") == "undefined":
        return None
    task = _number(environment, name)
    low = _number(environment, "SGE_TASK_FIRST", task)
    high = _number(environment, "SGE_TASK_LAST", task)
    step = max(1, _number(environment, "SGE_TASK_STEPSIZE", 1))
    if not low <= task <= high or (task - low) % step:
        raise _contradiction(name, f"task {task}, numbered {low} to {high} in steps of {step}")
    return Place((task - low) // step, (high - low) // step + 1, source=f"Grid Engine task {task}")


def _lsf(environment: Environment) -> Place | None:
    """The element of an LSF array. LSF gives the start of an array only in the job name: ``name[1-8]``."""
    name = "LSB_JOBINDEX"
    task = _number(environment, name, 0)
    if task < 1:  # 0: a job without an array
        return None
    job, source = environment.get("LSB_JOBID", ""), f"LSF array element {task}"
    written = re.search(r"\[([\d,:-]*[,-][\d,:-]*)\](%\d+)?$", environment.get("LSB_JOBNAME", ""))
    step = max(1, _number(environment, "LSB_JOBINDEX_STEP", 1))
    low, high = 1, _number(environment, "LSB_JOBINDEX_END", 0)
    if written is not None:
        span = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?", written[1])
        if span is None:
            return Place(task, None, job, f"{source} of an irregular list", irregular=True)
        low, high, step = int(span[1]), int(span[2]), int(span[3] or 1)
    elif high < 1:
        return Place(task, None, job, source)
    else:
        low = (task - 1) % step + 1
    if not low <= task <= high or (task - low) % step:
        raise _contradiction(name, f"element {task}, numbered {low} to {high} in steps of {step}")
    return Place((task - low) // step, (high - low) // step + 1, job, source)


def _aws_batch(environment: Environment) -> Place | None:
    name = "AWS_BATCH_JOB_ARRAY_INDEX"
    if name not in environment:
        return None
    task, source = _number(environment, name), f"AWS Batch array child {environment[name]}"
    if "AWS_BATCH_JOB_ARRAY_SIZE" not in environment:
        return Place(task, None, environment.get("AWS_BATCH_JOB_ID", ""), source)
    count = _number(environment, "AWS_BATCH_JOB_ARRAY_SIZE")
    if not 0 <= task < count:
        raise _contradiction(name, f"child {task} of {count}")
    return Place(task, count, source=source)


def _index_alone(environment: Environment) -> Place | None:
    """The task of an array whose scheduler does not give the number of tasks."""
    for name, job, source in _INDICES:
        if environment.get(name):
            task = _number(environment, name)
            return Place(task, None, environment.get(job, ""), f"{source} {task}")
    return None


def _contradiction(name: str, found: str) -> ConfigError:
    return ConfigError(Problem(name, found, "one of the tasks of its array", _UNSET))


def _number(environment: Environment, name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        remedy = f"unset {name}, or give worker.index and worker.count"
        raise ConfigError(Problem(name, repr(text), "a whole number", remedy)) from None
