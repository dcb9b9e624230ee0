"""Scales that turn gradients into the units of Adam's steps (:mod:`trak_cli.gradients.transforms.adam`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from trak_cli.errors import InputError, Problem
from trak_cli.gradients.contract import Engine
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.transforms.adam import (
    OverlappingBlocksError,
    Scale,
    Scales,
    SecondMoments,
    matrix_shape,
    scales_of_moments,
)
from trak_cli.plugins.checkpoints.formats.pickles import allowing
from trak_cli.plugins.optimizers.files import trained_by
from trak_cli.plurals import counted
from trak_cli.stages.featurizing.engines import build_engine
from trak_cli.stages.featurizing.setup import FeatureSetup
from trak_cli.stages.featurizing.statistics_cache import StatisticsCache
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.microbatches import Microbatch, by_size
from trak_cli.stages.inputs.split import Split
from trak_cli.types import AnyArray, Reporter, evenly_spaced

#: Training samples, at most, from whose gradients second moments are estimated. For images, 256 are as good as all samples;
#: texts need many, because most words occur in few of them.
SAMPLES = 4096


def scales_of(setup: FeatureSetup, checkpoint: Checkpoint, estimated: Callable[[Engine], Scales], engine: Engine) -> Scales:
    """The scales under a checkpoint: by the second moments of its optimizer, or else ``estimated`` with an engine."""
    return checkpoint_scales(setup, checkpoint) if setup.optimizer.states else estimated(engine)


def checkpoint_scales(setup: FeatureSetup, checkpoint: Checkpoint) -> Scales:
    """The scales by the second moments in the state of the checkpoint's optimizer.

    Raises:
        InputError: the state is no longer there, or a moment is not finite.
    """
    with allowing(checkpoint.allow):
        trained = trained_by(checkpoint.path, setup.model)
    if trained is None or trained.entries is None:
        reason = "no optimizer state" if trained is None else trained.reason
        remedy = "put the file back, or set gradients.moments=samples in a new store"
        expected = "the second moments that were read at the start of the run"
        raise InputError(Problem(str(checkpoint.path), reason, expected, remedy))
    scales = scales_of_moments(setup.selected, trained.second_moments, setup.matrices)
    return {name: scale.to(setup.device) for name, scale in scales.items()}


def stored_scales(
    cache: StatisticsCache, setup: FeatureSetup, checkpoint: str, microbatch: int, reporter: Reporter, engine: Engine
) -> Scales:
    """The stored scales of a checkpoint, whose weights are in the model; computed by ``engine`` if none are stored.

    Raises:
        StoreError: the stored scales are damaged, or belong to another run.
        InputError: the training set no longer has the samples from which the scales were computed.
    """
    train = cache.train
    rows = evenly_spaced(train.rows, SAMPLES).tolist()

    def compute() -> dict[str, Tensor]:
        reporter.log(f"{checkpoint}: second moments of the gradients of {counted(len(rows), 'sample')}")
        return joined(make_scales(setup, train, microbatch, rows, engine))

    arrays = cache.load_or_compute(cache.layout.scales(checkpoint), checkpoint, rows, compute)
    return split_scales(arrays, setup.selected, train.device)


def make_scales(setup: FeatureSetup, train: Split, microbatch: int, rows: Sequence[int], engine: Engine) -> Scales:
    """The scales for the weights in the model, from the gradients of the samples ``rows``.

    Uses the loop instead of an engine that gives the gradient of a parameter as several blocks that add up.
    """
    try:
        return _scales(setup, engine, train, by_size(train, rows, microbatch))
    except OverlappingBlocksError:
        return _scales(setup, build_engine(setup, "loop", {}), train, by_size(train, rows, 1))


def _scales(setup: FeatureSetup, engine: Engine, train: Split, microbatches: Iterable[Microbatch]) -> Scales:
    moments = SecondMoments(setup.selected)
    for microbatch in microbatches:
        with exact():  # once for the microbatch, not for every block
            moments.add(engine.per_sample(train.batch(microbatch.samples)))
    return {name: scale.to(setup.device) for name, scale in moments.scales().items()}


def joined(scales: Scales) -> dict[str, Tensor]:
    """The row scales of all parameters, concatenated in the order of the model, and the column scales likewise."""
    return {
        "rows": torch.cat([scale.rows for scale in scales.values()]),
        "columns": torch.cat([scale.columns for scale in scales.values()]),
    }


def split_scales(arrays: Mapping[str, AnyArray], parameters: Mapping[str, Tensor], device: torch.device) -> Scales:
    """The scales of each parameter, from the arrays that :func:`joined` returned."""
    shapes = [matrix_shape(parameter) for parameter in parameters.values()]
    rows = torch.split(torch.from_numpy(arrays["rows"].copy()).to(device), [m for m, _ in shapes])
    columns = torch.split(torch.from_numpy(arrays["columns"].copy()).to(device), [n for _, n in shapes])
    return {name: Scale(*pair) for name, *pair in zip(parameters, rows, columns, strict=True)}
