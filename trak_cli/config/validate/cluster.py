"""The section ``cluster``: what a task of each stage gets, and values that sbatch cannot take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trak_cli.config.schema import ClusterConfig
from trak_cli.config.validate.check import Checker
from trak_cli.config.validate.domain import domain_problems
from trak_cli.config.wording import nearest, one_of, shown
from trak_cli.errors import Problem
from trak_cli.plurals import counted

#: The stages that several processes can share, in the order in which they are run.
SHARED = ("featurize", "finalize", "score", "compress", "refine", "retrain", "unroll")

#: Shared stages that load no model, and so use no GPU.
WITHOUT_MODEL = ("finalize", "score", "compress")

#: Keys of ``cluster`` that hold for all stages.
_COMMON = ("kind", "stages")

#: Options of sbatch that `trak submit` sets itself -> what they follow from.
_OWN = {
    "array": "cluster.tasks",
    "job-name": "name",
    "time": "cluster.minutes",
    "partition": "cluster.partition",
    "account": "cluster.account",
    "qos": "cluster.qos",
    "mem": "cluster.memory_gb",
    "cpus-per-task": "cluster.cpus",
    "gpus-per-node": "cluster.gpus",
    "signal": "cluster.notice",
    "dependency": "the stages",
    "output": "store",
    "error": "store",
    "open-mode": "requeued tasks, which continue their logs",
    "chdir": "the current folder",
}


def cluster_of(cluster: ClusterConfig, stage: str) -> ClusterConfig:
    """What a task of this stage gets."""
    chosen, _ = _read(cluster, stage)
    if stage in WITHOUT_MODEL and "gpus" not in (cluster.stages.get(stage) or {}):
        chosen.gpus = 0
    return chosen


def cluster_problems(cluster: ClusterConfig) -> Iterator[Problem]:
    """Values that cannot be used, in the section and in what it says about single stages."""
    yield from _values(cluster, "cluster")
    known = [item.name for item in fields(ClusterConfig) if item.name not in _COMMON]
    for stage, values in cluster.stages.items():
        key = f"cluster.stages.{stage}"
        if stage not in SHARED:
            yield Problem(key, "no stage that is shared", one_of(SHARED), f"remove {stage}, or name one of those")
        elif not isinstance(values, dict):
            yield Problem(key, shown(values), "a mapping of keys of cluster to values", f"write e.g. {key}={{tasks: 1}}")
        elif unknown := [name for name in values if name not in known]:
            for name in unknown:
                meant = nearest(str(name), known)
                yield Problem(
                    f"{key}.{name}", "an unknown key", one_of(known), f"did you mean {meant}?" if meant else "remove it"
                )
        else:
            chosen, problems = _read(cluster, stage)
            yield from problems
            if not problems:
                yield from domain_problems(chosen, key)
                yield from _values(chosen, key)


def _read(cluster: ClusterConfig, stage: str) -> tuple[ClusterConfig, list[Problem]]:
    checker = Checker(lambda _: True)
    try:
        tree = OmegaConf.create(asdict(cluster) | (cluster.stages.get(stage) or {}) | {"stages": {}})
    except OmegaConfBaseException as error:
        return cluster, [Problem(f"cluster.stages.{stage}", str(error), "plain values", "quote texts with ${")]
    return checker.read(ClusterConfig, tree, f"cluster.stages.{stage}"), checker.problems


def _values(cluster: ClusterConfig, prefix: str) -> Iterator[Problem]:
    if cluster.memory_gb is not None and not cluster.memory_gb > 0:
        yield Problem(f"{prefix}.memory_gb", shown(cluster.memory_gb), "a number above 0", f"give e.g. {prefix}.memory_gb=16")
    if cluster.minutes is not None and cluster.notice >= 60 * cluster.minutes:
        found = f"{cluster.notice} seconds, with a time limit of {counted(cluster.minutes, 'minute')}"
        yield Problem(f"{prefix}.notice", found, "less than the time limit", f"give a smaller {prefix}.notice")
    for name in ("partition", "account", "qos"):
        yield from _one_line(getattr(cluster, name), f"{prefix}.{name}")
    for option, value in cluster.sbatch.items():
        key, own = f"{prefix}.sbatch.{option}", _OWN.get(option.replace("_", "-"))
        if own is not None:
            expected = f"an option that trak submit does not set itself (it follows from {own})"
            yield Problem(key, shown(value), expected, f"remove {key}")
        elif not option.replace("-", "").replace("_", "").isalnum() or isinstance(value, list | dict):
            expected = "a long option of sbatch without the dashes, with one value"
            yield Problem(key, shown(value), expected, "write e.g. cluster.sbatch={constraint: a100}")
        else:
            yield from _one_line(value, key)


def _one_line(value: Any, key: str) -> Iterator[Problem]:
    if isinstance(value, str) and not value.isprintable():
        yield Problem(key, repr(value), "one line of printable characters", f"correct {key}")
