"""Values that are checked by more than the declaration of their key: formats, ranges, and keys that must fit each other."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace

from omegaconf import MISSING

from trak_cli.attribution.estimator import validation
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.cluster.share import share_from
from trak_cli.config.schema import EstimatorConfig, GradientsConfig, RefineConfig, TrakConfig, TuneConfig
from trak_cli.config.validate.cluster import cluster_problems
from trak_cli.config.validate.domain import get
from trak_cli.config.validate.unrolling import unroll_problems
from trak_cli.config.wording import one_of, shown
from trak_cli.errors import ConfigError, Problem
from trak_cli.gradients.options import REPRESENTATION
from trak_cli.plugins.checkpoints.member import FRESH, KINDS
from trak_cli.projection.spec import spec_problems
from trak_cli.store.layout import check_name

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")

#: The values of ``device_map``.
_PLACE = re.compile(r"cpu|cuda:\d+|offload")


def combination_problems(config: TrakConfig) -> Iterator[Problem]:
    """Every value, or combination of values, that no stage could work with."""
    yield from _device(config.device)
    yield from _device_map(config)
    yield from _splits(config.dataset.targets)
    yield from _replaced(config)
    yield from _representation(config)
    yield from _autocast(config.gradients)
    yield from _moments(config.gradients)
    yield from spec_problems(config.projection.spec)
    yield from _ensemble(config)
    yield from _estimator(config.estimator)
    yield from _compared(config)
    yield from _output(config)
    yield from _tune(config.tune)
    yield from _retrain(config)
    yield from _refine(config.refine)
    yield from unroll_problems(config)
    yield from cluster_problems(config.cluster)
    yield from _worker(config)


def _refine(refine: RefineConfig) -> Iterator[Problem]:
    if refine.ridge is not None and not refine.ridge > 0:
        expected = "a number above 0: the curvature alone is singular"
        yield Problem("refine.ridge", shown(refine.ridge), expected, "give e.g. refine.ridge=1")
    if not 0 < refine.tolerance < 1:
        expected = "a number between 0 and 1, both excluded"
        yield Problem("refine.tolerance", shown(refine.tolerance), expected, "give e.g. refine.tolerance=0.01")
    if refine.targets is not None and len(set(refine.targets)) < len(refine.targets):
        yield Problem("refine.targets", shown(refine.targets), "different row numbers", "give each row once")
    if refine.group and refine.candidates is not None:
        expected = "null with refine.group=true: no scores of a group are stored from which candidates could be taken"
        yield Problem("refine.candidates", shown(refine.candidates), expected, "leave one of them out")
    if refine.name is not None:
        try:
            check_name(refine.name, "estimator")
        except ConfigError as error:
            yield from (replace(problem, where="refine.name") for problem in error.problems)


def _splits(names: Iterable[str]) -> Iterator[Problem]:
    """Problems with names of target splits, which become names of files in the store."""
    for name in names:
        key = f"dataset.targets.{name}"
        if name == "train":
            yield Problem(key, "a target split called train", "another name: train is the training set", "rename the split")
            continue
        try:
            check_name(name, "split")
        except ConfigError as error:
            yield from (replace(problem, where=key) for problem in error.problems)


def _replaced(config: TrakConfig) -> Iterator[Problem]:
    """Problems: names in ``dataset.replace`` that are not target splits."""
    for name in config.dataset.replace:
        if name not in config.dataset.targets:
            remedy = "use another store for another training set" if name == "train" else "name splits of dataset.targets"
            yield Problem("dataset.replace", shown(name), one_of(list(config.dataset.targets)), remedy)


def _device(device: str) -> Iterator[Problem]:
    if not _DEVICE.fullmatch(device):
        yield Problem("device", shown(device), "auto, cpu, cuda or cuda:N", "give device=auto to use a GPU where there is one")


def _device_map(config: TrakConfig) -> Iterator[Problem]:
    """Problems with the form of ``device_map``, and with an engine that cannot use it."""
    chosen = config.device_map
    if chosen is None:
        return
    where = {"device_map": chosen} if not isinstance(chosen, dict) else {f"device_map.{name}": chosen[name] for name in chosen}
    for key, value in where.items():
        accepted = value == "auto" if key == "device_map" else isinstance(value, str) and _PLACE.fullmatch(value)
        if not accepted:
            expected = "auto, or a mapping from modules to devices" if key == "device_map" else "cpu, cuda:N or offload"
            yield Problem(key, shown(value), expected, "give e.g. device_map=auto, or 'device_map={encoder: offload}'")
    if config.gradients.engine == "vmap":
        remedy = "use gradients=hooks, gradients=loop or gradients=auto, or remove device_map"
        yield Problem("gradients.engine", "vmap with device_map", "an engine that can copy weights during a call", remedy)


def _ensemble(config: TrakConfig) -> Iterator[Problem]:
    ensemble = config.ensemble
    most = math.inf if ensemble.kind == "noise" else 1.0
    if ensemble.kind in (None, *KINDS) and ensemble.scale is not None and not 0 < ensemble.scale < most:
        expected = "a number above 0" if ensemble.kind == "noise" else "a share between 0 and 1, both excluded"
        yield Problem("ensemble.scale", shown(ensemble.scale), expected, "give e.g. ensemble.scale=0.1")
    if ensemble.members and ensemble.kind == FRESH:
        for key, value in config.against_blends.items():
            expected = "models that are trained from the weights of the model plugin, and fit on one device"
            yield Problem("ensemble.kind", f"fresh, with {key}={shown(value)}", expected, "give ensemble.kind=mask")


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
    for key in ("gradients.terms", "gradients.classes"):
        if represents and get(config, key):
            found = f"true with gradients.engine={REPRESENTATION}"
            yield Problem(key, found, "null or false: a representation has no gradients", "leave it out")


def _autocast(gradients: GradientsConfig) -> Iterator[Problem]:
    if gradients.autocast is not None and gradients.engine == "vmap":
        key = "gradients.autocast"
        expected = "an engine that computes under autocast: hooks, loop or auto"
        yield Problem(key, f"{gradients.autocast}, with gradients=vmap", expected, f"give gradients=hooks, or {key}=null")


def _moments(gradients: GradientsConfig) -> Iterator[Problem]:
    """The problem of ``gradients.moments`` for gradients that are not scaled."""
    unscaled = "engine=representation" if gradients.engine == REPRESENTATION else "optimizer=sgd"
    if gradients.moments is not None and (gradients.engine == REPRESENTATION or gradients.optimizer == "sgd"):
        found = f"{gradients.moments}, with gradients.{unscaled}"
        expected = "null, because gradients are not scaled by second moments"
        yield Problem("gradients.moments", found, expected, "leave it out, or give gradients.optimizer=adam")


def _estimator(estimator: EstimatorConfig) -> list[Problem]:
    """Problems that the estimator reports itself; without a name, none was selected yet."""
    if estimator.name == MISSING:
        return []
    return validation.spec_problems(estimator.spec)


def _compared(config: TrakConfig) -> Iterator[Problem]:
    """Names that `trak eval-lds` could not tell apart."""
    estimators = {*config.estimator.names, *config.lds.estimators}
    for name in config.lds.scores:
        if name in estimators:
            expected = "a name that no compared estimator has (estimator.name, lds.estimators)"
            found = f"the name {name}, which is also the name of an estimator"
            yield Problem(f"lds.scores.{name}", found, expected, "choose another name for these scores")
    for name in config.lds.baselines:
        if name in estimators or name in config.lds.scores:
            found = f"{name}, which is also the name of an estimator or of lds.scores"
            yield Problem("lds.baselines", found, "different names for everything that is compared", "rename the other one")


def _output(config: TrakConfig) -> Iterator[Problem]:
    """The problem of losses that no ground truth has."""
    if config.lds.output == "loss" and (config.lds.ground_truth is not None or not config.retrain.same_seed):
        source = "lds.ground_truth" if config.lds.ground_truth is not None else "retrain.same_seed=false"
        expected = "f, because losses are stored by trak retrain retrain.same_seed=true only"
        remedy = "leave it out; or give retrain.same_seed=true, without lds.ground_truth"
        yield Problem("lds.output", f"loss, with {source}", expected, remedy)


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
    for problem in validation.spec_problems(spec):
        if problem.where == f"estimator.{item}":
            yield Problem(key, problem.found, problem.expected, "correct the value, or leave it out")


def _retrain(config: TrakConfig) -> Iterator[Problem]:
    retrain = config.retrain
    for key, share in (("fraction", retrain.fraction), ("drop", retrain.drop), ("flip_most", retrain.flip_most)):
        if share is not None and not 0 < share < 1:
            expected = "a number between 0 and 1, both excluded"
            yield Problem(f"retrain.{key}", shown(share), expected, f"give retrain.{key}=0.5")
    if retrain.flip_top and config.lds.group:
        found = f"{shown(retrain.flip_top)}, with lds.group=true"
        yield Problem("retrain.flip_top", found, "single targets: a mean of f is no prediction", "give lds.group=false")
    if retrain.fraction is not None and retrain.drop is not None and not math.isclose(retrain.fraction + retrain.drop, 1):
        found = f"{shown(retrain.drop)}, with retrain.fraction={shown(retrain.fraction)}"
        yield Problem("retrain.drop", found, "one of the two, or two shares that add up to 1", "leave out retrain.fraction")
    if not retrain.same_seed:
        for key, given in (
            ("run", retrain.run != 0),
            ("remove_top", bool(retrain.remove_top)),
            ("flip_top", bool(retrain.flip_top)),
        ):
            if given:
                found = f"{shown(getattr(retrain, key))}, with retrain.same_seed=false"
                expected = "its default, because models of other seeds are no run"
                yield Problem(f"retrain.{key}", found, expected, "give retrain.same_seed=true")


def _worker(config: TrakConfig) -> Iterator[Problem]:
    index, count = config.worker.index, config.worker.count
    if index is not None and count is None:
        expected = "both worker.index and worker.count, or neither"
        yield Problem("worker.count", f"nothing, although worker.index={index} is given", expected, "give worker.count too")
    elif index is None and count is not None:
        try:
            share_from(index, count, os.environ)
        except ConfigError as error:
            yield from error.problems
    elif index is not None and count is not None and index >= count >= 1:
        yield Problem("worker.index", str(index), f"0 to {count - 1} (worker.count is {count})", "count workers from 0")
