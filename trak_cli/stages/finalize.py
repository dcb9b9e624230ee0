"""``trak finalize``: one pass over the training features, for one k×k Gram matrix per checkpoint and its factorisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trak_cli.attribution.estimator.describe import describe_formula, describe_ridge, describe_weights
from trak_cli.attribution.estimator.spec import EstimatorSpec, gram_key
from trak_cli.attribution.linalg.spectrum import singular_problems
from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, Problem
from trak_cli.stages.index.inventory import Inventory, require_stored, take_inventory
from trak_cli.stages.index.work_parts import part_rows
from trak_cli.stages.inputs.device import use_threads
from trak_cli.stages.inputs.worker import worker_share
from trak_cli.stages.scoring.gram_parts import GramParts, GramUnit
from trak_cli.stages.scoring.gram_store import Finalized, covers_classes, find_gram
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
        grams: of the checkpoints of which this worker has a part; empty if no Gram matrix is needed.
        incomplete: checkpoints of which this worker has a part -> number of parts that other workers have not stored.
    """

    store: Path
    estimator: str
    formula: str
    ridge_rule: str
    weights_rule: str
    needs_gram: bool
    all_classes: bool
    grams: list[GramSummary]
    incomplete: dict[str, int]


def finalize(loaded: Loaded, reporter: Reporter) -> FinalizeSummary:
    """Sum the missing parts of this worker's share; merge those of every checkpoint that are complete.

    Raises:
        ConfigError, StoreError, MachineError: see the classes.
    """
    config = loaded.config
    use_threads(config.threads)
    estimator = config.estimator.spec
    layout = Layout(Path(config.store))
    largest = max(config.estimator.checkpoint_counts, default=None)
    inventory = take_inventory(layout, config.estimator.average_over).first(largest)
    grams, incomplete = _file(config, inventory, estimator, reporter) if estimator.needs_gram else ([], {})
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
        incomplete,
    )


def _file(
    config: TrakConfig, inventory: Inventory, estimator: EstimatorSpec, reporter: Reporter
) -> tuple[list[GramSummary], dict[str, int]]:
    """The Gram matrices of which this worker has a part, in the order of the inventory, and those that lack parts."""
    parts = GramParts(inventory, estimator, part_rows(config.worker.part_rows, inventory.dim))
    # The first worker under each checkpoint computes the weighting for the others.
    shares = worker_share(config.worker, reporter).grouped(parts.units(), lambda unit: unit.checkpoint)
    problems: list[Problem] = []
    grams, incomplete = [], {}
    for name, found, reused in _grams(parts, shares, reporter):
        if found is None:
            incomplete[name] = parts.missing(name)
            continue
        ridge = estimator.ridge_in(found.spectrum)
        problems += singular_problems(found.spectrum, ridge)
        explains = bool(estimator.ridge_rule(found.spectrum.over).explained) and ridge > 0
        grams.append(_summary(name, inventory.rows, found, ridge, explains, reused))
    sweep(inventory.layout.finalized_folder(gram_key(estimator, inventory.curvature)))
    ConfigError.raise_for(problems)
    return sorted(grams, key=lambda gram: inventory.checkpoints.index(gram.checkpoint)), incomplete


def _grams(
    parts: GramParts, shares: Mapping[str, list[GramUnit]], reporter: Reporter
) -> Iterator[tuple[str, Finalized | None, bool]]:
    """(checkpoint, factorised Gram matrix, whether it existed): first the existing ones, then those that are computed now.

    None if other workers have not stored their parts.
    """
    pending = []
    for name in shares:
        found = find_gram(parts.inventory, parts.estimator, name)
        if found is None:
            pending.append(name)
        else:
            parts.remove(name)
            yield name, found, True
    if pending:
        require_stored(parts.inventory, [TRAIN])
    for name in pending:
        if (found := find_gram(parts.inventory, parts.estimator, name)) is not None:  # meanwhile by another worker
            yield name, found, True
            continue
        with reporter.meter(f"finalize {name}", sum(len(unit.rows) for unit in shares[name]), "rows") as meter:
            found = parts.compute(shares[name], meter.advance)
        yield name, found or parts.finish(name), False
    for name in parts.inventory.checkpoints:
        if name not in shares and not parts.missing(name):  # of a worker that was killed before it merged them
            yield name, parts.finish(name), False


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
