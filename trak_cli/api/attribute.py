"""Attribution of a model object and data sets in memory: featurize, finalize and score in one call."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from trak_cli.api.datasets import as_collate, as_dataset, as_splits, dtype_problems
from trak_cli.api.identity import model_identity, object_identity
from trak_cli.api.live import Make, node_of, same
from trak_cli.api.models import ModelOrFactory, factory_of, weight_files
from trak_cli.api.progress import reporter_of
from trak_cli.api.resuming import check_samples
from trak_cli.api.stages import featurize, finalize, score
from trak_cli.api.store import Store
from trak_cli.api.wording import as_arguments
from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.fresh_weights import starts_random
from trak_cli.plugins.checkpoints.notes import can_be_blended
from trak_cli.plugins.samples import Indexed
from trak_cli.results.samples import dataset_key
from trak_cli.store.layout import Layout
from trak_cli.tasks import Task
from trak_cli.types import TRAIN, Reporter
from trak_cli.user_errors import report_user_errors


def attribute(
    model: ModelOrFactory,
    checkpoints: Any,
    train: Any,
    targets: Any,
    *,
    task: str | Task | type[Task] = "classification",
    store: str | Path | None = None,
    **choices: Any,
) -> Store:
    """Score every training sample for every target, for objects in memory.

    ::

        result = trak.attribute(model, None, train, test)
        result.top(target=3)

    Args:
        model: the model, which is copied and never changed (its mode and device do not matter), or a function that builds a
            new one.
        checkpoints: the trained weights: a state dict, a model, a path, or a list of these, whose scores are averaged; None:
            the weights that ``model`` has.
        train: the training set: a map-style data set, a list of samples, or a tuple or mapping of tensors or arrays with one
            entry per sample. Its samples must not change from one reading to the next (no random augmentation).
        targets: the samples whose outputs are explained, likewise; or a mapping of split names to several such sets.
        task: the model output to attribute: an option of the config group ``task``, or an object.
        store: folder of the results. A store that exists is resumed if model, weights, data and choices are the same, and
            refused if they are not. None: a temporary folder, removed with the returned object.
        choices: ``collate`` (a function from samples to a batch), ``progress`` (see :meth:`trak_cli.api.stages.Stage.__call__`)
            and keys of the configuration, such as ``device="cpu"``, ``estimator="trak"`` or ``projection__dim=512``.

    Raises:
        TrakError: as the stages raise it; InputError also for an argument that is not what it should be.
    """
    progress: bool | Reporter = choices.pop("progress", True)
    problems: list[Problem] = []
    splits = {TRAIN: as_dataset(train, "train", problems), **as_splits(targets, problems)}
    collate, task = as_collate(choices.pop("collate", None), problems), _as_task(task, problems)
    InputError.raise_for(problems)
    temporary = tempfile.TemporaryDirectory(prefix="trak-") if store is None else None
    root = Path(store if temporary is None else temporary.name).expanduser().absolute()  # type: ignore[arg-type]
    with report_user_errors("model", library=True):
        build = factory_of(model)
        InputError.raise_for(dtype_problems(splits, build()))
        files = weight_files(checkpoints, model, build, Layout(root).trained)
        objects, values = _objects(build, splits, task, collate)
    values |= {"store": root, "checkpoints.files": files, "worker.index": 0, "worker.count": 1}
    if isinstance(model, nn.Module) or (any(map(can_be_blended, files)) and not starts_random(build)):  # no new random weights
        values["ensemble.kind"] = "mask"
    values |= {key.replace("__", "."): value for key, value in choices.items()}
    with as_arguments():
        check_samples(Layout(root), splits, reporter_of(progress))
        names = featurize.with_objects(values, objects, progress).checkpoints
        values = {"estimator.average_over": names} | values  # not over others that the store may hold
        finalize.with_objects(values, objects, progress)
        score.with_objects(values, objects, progress)
    return Store(root, values, objects, temporary)


def _objects(
    build: Make, splits: Mapping[str, Indexed], task: Any, collate: Callable[[list[Any]], Any] | None
) -> tuple[dict[str, Make], dict[str, Any]]:
    """The objects by the keys that hold them, and the configuration that names them."""
    objects: dict[str, Make] = {"model": build, **{dataset_key(name): same(data) for name, data in splits.items()}}
    values: dict[str, Any] = {"model": node_of("model", **model_identity(build()))}
    nodes = {name: node_of(dataset_key(name), kind=type(data).__name__, rows=len(data)) for name, data in splits.items()}
    values |= {dataset_key(TRAIN): nodes.pop(TRAIN), "dataset.targets": nodes}
    if isinstance(task, str):
        values["task"] = task
    else:
        values["task"] = node_of("task", **object_identity(task))
        objects["task"] = lambda: copy.deepcopy(task)  # a task keeps the context of a run
    if collate is not None:
        objects["dataset.collate"] = same(collate)
        values["dataset.collate"] = node_of("dataset.collate", **object_identity(collate))
    return objects, values


def _as_task(task: Any, problems: list[Problem]) -> Any:
    """The name of a task, or the object; a problem is added if it is neither."""
    task = task() if isinstance(task, type) and issubclass(task, Task) else task
    if not isinstance(task, str | Task):
        found, expected = f"an object of type {type(task).__name__}", "the name of a task, such as classification, or a Task"
        problems.append(Problem("task", found, expected, "derive its class from trak_cli.tasks.Task"))
    return task
