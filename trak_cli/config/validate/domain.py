"""What the types cannot say: choices, ranges, and values that must go together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from omegaconf import MISSING

from trak_cli.attribution.estimator import spec as estimator_spec
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.lds.datamodels import BASELINES
from trak_cli.config.schema import EnsembleConfig, EstimatorConfig, GradientsConfig, ProjectionConfig, TrakConfig, TuneConfig
from trak_cli.config.wording import join, nearest, one_of, shown
from trak_cli.errors import ConfigError, Problem
from trak_cli.gradients.engines.registry import ENGINES
from trak_cli.gradients.engines.representation import REPRESENTATION, SIDES
from trak_cli.gradients.transforms.adam import OPTIMIZERS
from trak_cli.gradients.transforms.autocast import AUTOCAST
from trak_cli.plugins.checkpoints.derived import KINDS
from trak_cli.projection import spec as projection_spec
from trak_cli.projection.registry import KERNELS
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.store.layout import check_name

CHOICES: dict[str, tuple[str, ...]] = {
    "gradients.engine": ("auto", *ENGINES, REPRESENTATION),
    "gradients.side": SIDES,
    "ensemble.kind": KINDS,
    "projection.kernel": ("auto", *(kernel.name for kernel in KERNELS)),
    "features.dtype": ("float32", "float16", "bfloat16"),
}

#: Smallest value of each number; null, where the type allows it, is always in order.
AT_LEAST: dict[str, int] = {
    "threads": 1,
    "seed": 0,
    "gradients.memory_mb": 1,
    "gradients.microbatch": 1,
    "ensemble.members": 0,
    "features.shard_rows": 1,
    "features.readers": 0,
    "score.top_k": 1,
    "score.target_block": 1,
    "lds.bootstrap": 0,
    "tune.targets": 1,
    "train.count": 1,
    "train.snapshots": 0,
    "retrain.subsets": 1,
    "retrain.models_per_subset": 1,
    "worker.index": 0,
    "worker.count": 1,
}

NOT_EMPTY = (
    "name",
    "store",
    "parameters.include",
    "estimator.checkpoints",
    "train.folder",
)

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def domain_problems(config: TrakConfig) -> Iterator[Problem]:
    """Every value that has the right type and still makes no sense."""
    for key, allowed in CHOICES.items():
        value = get(config, key)
        if value not in allowed:
            meant = nearest(str(value), allowed)
            remedy = f"did you mean {key}={meant}?" if meant else f"give {key} one of those"
            yield Problem(key, shown(value), one_of(allowed), remedy)
    for key, least in AT_LEAST.items():
        value = get(config, key)
        if value is not None and value < least:
            yield Problem(key, shown(value), f"a whole number ≥ {least}", f"give {key}={least} or more")
    for key in NOT_EMPTY:
        if not get(config, key):
            yield Problem(key, "nothing", "a value that is not empty", f"give {key}=VALUE")
    yield from _numbers(config, "")
    yield from _device(config.device)
    yield from _scale(config.ensemble)
    yield from _representation(config)
    yield from _autocast(config.gradients)
    yield from _optimizer(config.gradients)
    yield from _estimator(config.estimator)
    for name in config.lds.baselines:
        if name not in BASELINES:
            yield Problem("lds.baselines", shown(name), one_of(list(BASELINES)), "name only those")
    yield from _compared(config)
    yield from _tune(config.tune)
    yield from _projection(config.projection)
    yield from _fraction(config.retrain.fraction)
    yield from _worker(config)
    yield from _splits(config.dataset.targets)


def _splits(names: Iterable[str]) -> Iterator[Problem]:
    """A target split gives its name to files of the store."""
    for name in names:
        key = f"dataset.targets.{name}"
        if name == "train":
            yield Problem(key, "a target split called train", "another name: train is the training set", "rename the split")
            continue
        try:
            check_name(name, "split")
        except ConfigError as error:
            yield from (replace(problem, where=key) for problem in error.problems)


def get(config: Any, key: str) -> Any:
    """The value at a dotted key of nested dataclasses; None where a mapping on the way is absent."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


def _numbers(section: Any, prefix: str) -> Iterator[Problem]:
    for item in fields(section):
        value = getattr(section, item.name)
        key = join(prefix, item.name)
        if is_dataclass(value):
            yield from _numbers(value, key)
        elif isinstance(value, float) and not math.isfinite(value):
            yield Problem(key, str(value), "a finite number", f"give {key} a finite number")


def _device(device: str) -> Iterator[Problem]:
    if not _DEVICE.fullmatch(device):
        yield Problem("device", shown(device), "auto, cpu, cuda or cuda:N", "give device=auto to use a GPU where there is one")


def _scale(ensemble: EnsembleConfig) -> Iterator[Problem]:
    most = math.inf if ensemble.kind == "noise" else 1.0
    if not 0 < ensemble.scale < most:
        expected = "a number above 0" if ensemble.kind == "noise" else "a share between 0 and 1, both excluded"
        yield Problem("ensemble.scale", shown(ensemble.scale), expected, "give e.g. ensemble.scale=0.1")


def _representation(config: TrakConfig) -> Iterator[Problem]:
    """Keys of gradients are refused for a representation, and keys of a representation for gradients."""
    gradients = config.gradients
    place = {"gradients.module": None, "gradients.side": "output"}
    patterns = {} if config.train.only_parameters else {"parameters.include": ["*"], "parameters.exclude": []}
    represents = gradients.engine == REPRESENTATION
    reason = "a representation has no parameters" if represents else f"only gradients={REPRESENTATION} reads it"
    for key, default in (patterns if represents else place).items():
        if get(config, key) != default:
            found = f"{shown(get(config, key))} with gradients.engine={gradients.engine}"
            yield Problem(key, found, f"its default, because {reason}", "leave it out")
    if represents and gradients.terms:
        found = f"true with gradients.engine={REPRESENTATION}"
        yield Problem("gradients.terms", found, "null or false: a representation has no gradients", "leave it out")


def _autocast(gradients: GradientsConfig) -> Iterator[Problem]:
    name, key = gradients.autocast, "gradients.autocast"
    if name is None:
        return
    if name not in AUTOCAST:
        yield Problem(key, shown(name), f"{one_of(tuple(AUTOCAST))}, or null", f"give {key}=bfloat16")
    elif gradients.engine == "vmap":
        expected = "an engine that computes under autocast: hooks, loop or auto"
        yield Problem(key, f"{name}, with gradients=vmap", expected, "use gradients=hooks, or gradients.autocast=null")


def _optimizer(gradients: GradientsConfig) -> Iterator[Problem]:
    name, key = gradients.optimizer, "gradients.optimizer"
    if name is not None and name not in OPTIMIZERS:
        yield Problem(key, shown(name), f"{one_of(OPTIMIZERS)}, or null", f"give {key}=adam for Adam and AdamW")


def _estimator(estimator: EstimatorConfig) -> list[Problem]:
    """What the estimators themselves say; one without a name is no estimator yet."""
    if estimator.name == MISSING:
        return []
    choices = {item.name: getattr(estimator, item.name) for item in fields(EstimatorSpec)}
    return estimator_spec.spec_problems(EstimatorSpec(**choices))


def _compared(config: TrakConfig) -> Iterator[Problem]:
    """Scores that `trak eval-lds` sets side by side are told apart by name alone."""
    estimators = {config.estimator.name, *config.lds.estimators}
    for name in config.lds.scores:
        if name in estimators:
            expected = "a name that no estimator beside it has (estimator.name, lds.estimators)"
            yield Problem(
                f"lds.scores.{name}", f"a file called {name}, as an estimator is", expected, "rename the file's scores"
            )
    for name in config.lds.baselines:
        if name in estimators or name in config.lds.scores:
            found = f"{name}, which an estimator or a file is called too"
            yield Problem("lds.baselines", found, "a name of its own for all that is compared", "rename the other one")


def _tune(tune: TuneConfig) -> Iterator[Problem]:
    """Problems of the estimator's name and of every value in the grid, as the estimators themselves report them."""
    yield from _field_problems(EstimatorSpec(tune.name), "name", "tune.name")
    for name, values in tune.grid.items():
        key = f"tune.grid.{name}"
        if name == "name" or name not in {item.name for item in fields(EstimatorSpec)}:
            continue  # the checker reports it
        if not values:
            yield Problem(key, "an empty list", "at least one value", f"give values, or leave it out with ~{key}")
        for value in values:
            yield from _field_problems(replace(EstimatorSpec("grid"), **{name: value}), name, key)


def _field_problems(spec: EstimatorSpec, item: str, key: str) -> Iterator[Problem]:
    """The problems of one field of the estimator, reported under another key."""
    for problem in estimator_spec.spec_problems(spec):
        if problem.where == f"estimator.{item}":
            yield Problem(key, problem.found, problem.expected, "correct the value, or leave it out")


def _projection(asked: ProjectionConfig) -> list[Problem]:
    """What the projections themselves say."""
    factors = None if asked.factors is None else tuple(asked.factors)
    return projection_spec.spec_problems(ProjectionSpec(asked.kind, asked.dim, asked.seed, asked.nonzeros, factors))


def _fraction(fraction: float) -> Iterator[Problem]:
    if not 0 < fraction < 1:
        yield Problem(
            "retrain.fraction", shown(fraction), "a number between 0 and 1, both excluded", "give retrain.fraction=0.5"
        )


def _worker(config: TrakConfig) -> Iterator[Problem]:
    index, count = config.worker.index, config.worker.count
    if (index is None) != (count is None):
        given, absent = ("index", "count") if count is None else ("count", "index")
        yield Problem(
            f"worker.{absent}",
            f"nothing, beside worker.{given}={index if count is None else count}",
            "both worker.index and worker.count, or neither",
            f"give worker.{absent} too",
        )
    elif index is not None and count is not None and index >= count >= 1:
        yield Problem("worker.index", str(index), f"0 to {count - 1} (worker.count is {count})", "count workers from 0")


def absent(config: TrakConfig, keys: Iterable[str]) -> list[str]:
    """Those of the keys that have no value. A store is absent when it is to be named after a run without a name."""
    lacking = []
    for key in keys:
        value = config.name if key == "store" else get(config, key)
        if value is None or value == MISSING or (isinstance(value, Sequence | dict) and not value):
            lacking.append(key)
    return lacking
