"""``trak finalize``: one pass over the training features, for one k×k Gram matrix per checkpoint and its factorisation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trak_cli.attribution import (
    EstimatorSpec,
    Spectrum,
    describe_formula,
    describe_ridge,
    gram_key,
    parse_ridge,
    resolve,
    singular_problems,
)
from trak_cli.cluster import share_from
from trak_cli.config import Loaded
from trak_cli.errors import ConfigError, Problem
from trak_cli.stages.estimators import make_estimator
from trak_cli.stages.grams import find_spectrum, sum_gram, write_spectrum
from trak_cli.stages.inventory import Inventory, require_shards, take_inventory
from trak_cli.stages.machine import use_threads
from trak_cli.stages.parts import TRAIN
from trak_cli.store import Layout, sweep
from trak_cli.types import Reporter


@dataclass(frozen=True)
class GramSummary:
    """One checkpoint's Gram matrix.

    Attributes:
        ridge: λ, in the units of the Gram matrix.
        mean_diagonal: mean(diag XᵀX).
        effective_dimension: Σ σ/(σ + λ) over the eigenvalues σ: how many directions count.
    """

    checkpoint: str
    rows: int
    dim: int
    ridge: float
    mean_diagonal: float
    effective_dimension: float
    reused: bool


@dataclass(frozen=True)
class FinalizeSummary:
    """What a call of finalize found and did; ``grams`` holds this worker's checkpoints."""

    store: Path
    estimator: str
    formula: str
    ridge_rule: str
    grams: list[GramSummary]


def finalize(loaded: Loaded, reporter: Reporter) -> FinalizeSummary:
    """Write the Gram matrix of every checkpoint of this worker's share that is not there yet.

    Raises:
        ConfigError, StoreError, MachineError: see the classes.
    """
    config = loaded.config
    use_threads(config.threads)
    estimator = make_estimator(config)
    layout = Layout(Path(config.store))
    inventory = take_inventory(layout, config.estimator.checkpoints)
    summary = FinalizeSummary(layout.root, estimator.name, describe_formula(estimator), describe_ridge(estimator.ridge), [])
    if not estimator.needs_gram:
        return summary
    mine = share_from(config.worker.index, config.worker.count, os.environ).of(inventory.checkpoints)
    problems: list[Problem] = []
    for name, spectrum, reused in _spectra(inventory, estimator, mine, reporter):
        ridge = resolve(parse_ridge(estimator.ridge), spectrum)
        problems += singular_problems(spectrum, ridge)
        summary.grams.append(_summary(name, spectrum, ridge, reused))
    sweep(layout.finalized_folder(gram_key(estimator)))
    if problems:
        raise ConfigError(problems)
    summary.grams.sort(key=lambda gram: mine.index(gram.checkpoint))
    return summary


def _spectra(
    inventory: Inventory, estimator: EstimatorSpec, checkpoints: Sequence[str], reporter: Reporter
) -> Iterator[tuple[str, Spectrum, bool]]:
    """(checkpoint, factorised Gram, whether it was there): first those that are there, then those that are summed now."""
    stale = []
    for name in checkpoints:
        spectrum = find_spectrum(inventory, estimator, name)
        if spectrum is None:
            stale.append(name)
        else:
            yield name, spectrum, True
    if stale:
        require_shards(inventory, [TRAIN])
    for name in stale:
        with reporter.meter(f"finalize {name}", inventory.rows, "rows") as meter:
            spectrum = sum_gram(inventory, estimator, name, meter.advance)
            write_spectrum(inventory, estimator, name, spectrum)
        yield name, spectrum, False


def _summary(name: str, spectrum: Spectrum, ridge: float, reused: bool) -> GramSummary:
    values = spectrum.values.clip(min=0)
    effective = float((values / (values + ridge)).sum()) if ridge > 0 else float((values > 0).sum())
    return GramSummary(name, spectrum.n, len(values), ridge, spectrum.mean_diag, effective, reused)
