"""``trak finalize``: one pass over the training features, for one k×k Gram matrix per checkpoint and its factorisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trak_cli.attribution.estimator.describe import describe_formula, describe_ridge, describe_weights
from trak_cli.attribution.estimator.spec import EstimatorSpec, gram_key
from trak_cli.attribution.linalg.spectrum import singular_problems
from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, Problem
from trak_cli.stages.index.inventory import Inventory, require_shards, take_inventory
from trak_cli.stages.inputs.device import use_threads
from trak_cli.stages.inputs.worker import worker_share
from trak_cli.stages.scoring.gram_store import Finalized, covers_classes, find_gram, sum_gram, write_gram
from trak_cli.store.layout import Layout
from trak_cli.store.temp_files import sweep
from trak_cli.types import TRAIN, Reporter


@dataclass(frozen=True)
class GramSummary:
    """One checkpoint's Gram matrix.

    Attributes:
        ridge: λ, in the units of the Gram matrix.
        mean_diagonal: mean(diag XᵀX).
        explained: the share of the variance of the outputs that a ridge regression with λ explains, of what one without a ridge
            explains; NaN where λ does not depend on it.
        effective_dimension: Σ σ/(σ + λ) over the eigenvalues σ: how many directions count.
        training_length: how long the simulated training was, in units of 1 / mean ‖x‖²; 0 where none can be simulated and all
            samples weigh alike; NaN for estimators with the q of the checkpoint.
        arrived: False where it did not come as far as the checkpoint.
        terms: how many single terms (tokens) the Gram matrix is a sum over; 0 where it is over the rows.
        effective_samples: (Σ w)² / Σ w² of the sample weights of the simulated training: how many samples count; NaN without
            it.
    """

    checkpoint: str
    rows: int
    terms: int
    dim: int
    ridge: float
    mean_diagonal: float
    explained: float
    effective_dimension: float
    training_length: float
    arrived: bool
    effective_samples: float
    reused: bool


@dataclass(frozen=True)
class FinalizeSummary:
    """The result of one call.

    Attributes:
        all_classes: whether the Gram matrices cover the other classes of the samples, too.
        grams: of this worker's checkpoints; empty if no Gram matrix is needed.
    """

    store: Path
    estimator: str
    formula: str
    ridge_rule: str
    weights_rule: str
    needs_gram: bool
    all_classes: bool
    grams: list[GramSummary]


def finalize(loaded: Loaded, reporter: Reporter) -> FinalizeSummary:
    """Write the missing Gram matrices of this worker's share of the checkpoints.

    Raises:
        ConfigError, StoreError, MachineError: see the classes.
    """
    config = loaded.config
    use_threads(config.threads)
    estimator = config.estimator.spec
    layout = Layout(Path(config.store))
    largest = max(config.estimator.checkpoint_counts, default=None)
    inventory = take_inventory(layout, config.estimator.average_over).first(largest)
    grams = _file(config, inventory, estimator, reporter) if estimator.needs_gram else []
    all_classes = covers_classes(inventory, estimator)
    return FinalizeSummary(
        layout.root,
        estimator.name,
        describe_formula(estimator),
        describe_ridge(estimator, "terms" if any(gram.terms for gram in grams) else "classes" if all_classes else "samples"),
        describe_weights(estimator, max((gram.training_length for gram in grams), default=1.0)),
        estimator.needs_gram,
        all_classes,
        grams,
    )


def _file(config: TrakConfig, inventory: Inventory, estimator: EstimatorSpec, reporter: Reporter) -> list[GramSummary]:
    """The Gram matrices of this worker's share, in the order of its checkpoints."""
    mine = worker_share(config.worker, reporter).of(inventory.checkpoints)
    problems: list[Problem] = []
    grams = []
    for name, found, reused in _grams(inventory, estimator, mine, reporter):
        ridge = estimator.ridge_in(found.spectrum)
        problems += singular_problems(found.spectrum, ridge)
        explains = bool(estimator.ridge_rule(found.spectrum.over).explained) and ridge > 0
        grams.append(_summary(name, inventory.rows, found, ridge, explains, reused))
    sweep(inventory.layout.finalized_folder(gram_key(estimator, inventory.curvature)))
    ConfigError.raise_for(problems)
    return sorted(grams, key=lambda gram: mine.index(gram.checkpoint))


def _grams(
    inventory: Inventory, estimator: EstimatorSpec, checkpoints: Sequence[str], reporter: Reporter
) -> Iterator[tuple[str, Finalized, bool]]:
    """(checkpoint, factorised Gram matrix, whether it existed): first the existing ones, then those that are computed now."""
    stale = []
    for name in checkpoints:
        found = find_gram(inventory, estimator, name)
        if found is None:
            stale.append(name)
        else:
            yield name, found, True
    if stale:
        require_shards(inventory, [TRAIN])
    for name in stale:
        made = find_gram(inventory, estimator, name)  # meanwhile by another worker whose share overlaps
        if made is not None:
            yield name, made, True
            continue
        with reporter.meter(f"finalize {name}", inventory.rows, "rows") as meter:
            found = sum_gram(inventory, estimator, name, meter.advance)
            write_gram(inventory, estimator, name, found)
        yield name, found, False


def _summary(name: str, rows: int, found: Finalized, ridge: float, explains: bool, reused: bool) -> GramSummary:
    spectrum = found.spectrum
    values = spectrum.values.clip(min=0)
    effective = float((values / (values + ridge)).sum()) if ridge > 0 else float((values > 0).sum())
    samples = float("nan")
    if found.sample_weight is not None and found.sample_weight.any():
        weights = np.abs(found.sample_weight.astype(np.float64))
        samples = float(weights.sum() ** 2 / (weights**2).sum())
    return GramSummary(
        name,
        rows,
        spectrum.n if spectrum.over == "terms" else 0,
        spectrum.dim,
        ridge,
        spectrum.mean_diag,
        spectrum.explained(ridge) if explains else float("nan"),
        effective,
        found.duration,
        found.arrived,
        samples,
        reused,
    )
