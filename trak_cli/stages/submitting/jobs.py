"""From the configuration to the tasks of each stage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from trak_cli.cluster.tasks import Resources, TaskArray
from trak_cli.config.load import Loaded
from trak_cli.config.validate.cluster import cluster_of
from trak_cli.errors import ConfigError, Problem
from trak_cli.stages.submitting.progress import Progress, inputs_of, progress_of
from trak_cli.store.layout import Layout


@dataclass(frozen=True)
class Request:
    """What the user typed.

    Attributes:
        stages: each with the configuration that was checked for it, in the order in which they are run.
        arguments: options and overrides of `trak STAGE`.
    """

    stages: Mapping[str, Loaded]
    arguments: Sequence[str]

    @property
    def loaded(self) -> Loaded:
        """The configuration, of any stage: the keys of `cluster` and the store are the same in all."""
        return next(iter(self.stages.values()))

    @property
    def layout(self) -> Layout:
        """The store."""
        return Layout(Path(self.loaded.config.store))


@dataclass(frozen=True)
class StageWork:
    """A stage that has work left."""

    stage: str
    progress: Progress
    tasks: TaskArray


def task_arguments(folder: Path | None, name: str | None, overrides: Sequence[str]) -> list[str]:
    """The arguments that every task passes to `trak STAGE`: those of `trak submit`, without the keys of `cluster`.

    Raises:
        ConfigError: an override divides the work, which the tasks do.
    """
    ConfigError.raise_for(
        Problem(text.partition("=")[0], text, "no share: each task has its own", "set cluster.tasks=N instead")
        for text in overrides
        if re.match(r"\+*worker(\.(?!part_rows=)|=|$)", text)
    )
    options = [*([] if folder is None else ["-d", str(folder)]), *([] if name is None else ["-n", name])]
    return [*options, *(text for text in overrides if not re.match(r"[+~]*cluster(\.|=|$)", text))]


def remaining(request: Request, everything: bool) -> Iterator[StageWork]:
    """The stages that have work left. Where an earlier stage has, a later one has too.

    Args:
        everything: do not look at what is stored; the tasks skip it.

    Raises:
        StoreError, MachineError: the store cannot be read.
    """
    begun: list[str] = []
    for stage, loaded in request.stages.items():
        progress = progress_of(stage, loaded)
        if everything or not progress.complete or any(earlier in begun for earlier in inputs_of(stage, loaded.config)):
            begun.append(stage)
            yield StageWork(stage, progress, _tasks(request, stage, progress, exact=not everything))


def _tasks(request: Request, stage: str, progress: Progress, exact: bool) -> TaskArray:
    config = request.loaded.config
    cluster = cluster_of(config.cluster, stage)
    resources = Resources(**{item.name: getattr(cluster, item.name) for item in fields(Resources)})
    # A missing file of another stage may be the work of several tasks.
    counted = exact and stage in ("featurize", "retrain") and progress.total is not None
    least = len(progress.missing) if counted else cluster.tasks
    name = f"trak-{stage}-{re.sub(r'[^A-Za-z0-9._-]+', '_', config.name)}"
    folder = request.layout.logs(stage).absolute()
    return TaskArray(name, [stage, *request.arguments], max(1, min(cluster.tasks, least)), folder, resources)
