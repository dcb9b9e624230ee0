"""Features of any range of rows of a split under one checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from trak_cli.batches import to_device
from trak_cli.gradients.checks.finite import check_finite
from trak_cli.gradients.contract import Engine, PerSample
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.transforms.adam import ScaledEngine, Scales
from trak_cli.projection.contract import Projector
from trak_cli.stages.inputs.prefetch import ReadBatch, read, reading
from trak_cli.stages.inputs.split import Microbatch, Split, validate
from trak_cli.store.shards import FeatureRows
from trak_cli.tasks import Task
from trak_cli.types import TRAIN, Rows
from trak_cli.user_errors import report_user_errors

#: The columns of a shard, by name.
Columns = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Featurizer:
    """Everything that turns rows of a split into features under one checkpoint.

    Attributes:
        parameters: p, the number of selected parameters.
        microbatch: samples per gradient computation.
        signed: for training samples, the engine of their terms with random signs.
    """

    model: torch.nn.Module
    task: Task
    engine: Engine
    projector: Projector
    parameters: int
    microbatch: int
    signed: Engine | None = None

    def scaled(self, scales: Scales) -> Featurizer:
        """The same with gradients times ``scales``."""
        signed = None if self.signed is None else ScaledEngine(self.signed, scales)
        return replace(self, engine=ScaledEngine(self.engine, scales), signed=signed)

    def rows(self, split: Split, rows: Rows, progress: Callable[[int], None]) -> FeatureRows:
        """Features of ``rows``, in their order, whatever the order of computation.

        Raises:
            InputError: a sample that the task refuses, or one whose output or gradient is not finite.
        """
        whole: Columns = {}
        for batch in reading(split, split.microbatches(rows, self.microbatch)):
            part = self._columns(split, batch)
            inside = [place for place, row in enumerate(batch.rows) if rows.start <= row < rows.stop]
            places = [batch.rows[place] - rows.start for place in inside]
            for name, values in part.items():
                if name not in whole:
                    whole[name] = np.empty((len(rows), *values.shape[1:]), values.dtype)
                whole[name][places] = values[inside]
            progress(len(inside))
        return FeatureRows(rows, **whole)

    def columns(self, split: Split, microbatch: Microbatch) -> Columns:
        """What a shard holds of the samples of a microbatch, in its order.

        Raises:
            InputError: as for :meth:`rows`.
        """
        return self._columns(split, read(split, microbatch))

    def _columns(self, split: Split, read_batch: ReadBatch) -> Columns:
        rows, batch = read_batch.rows, to_device(read_batch.host, split.device)
        names = [f"sample {row} of {split.name}" for row in rows]
        with report_user_errors(names[0] if len(rows) == 1 else f"samples {', '.join(map(str, rows))} of {split.name}"):
            validate(self.task, self.model, batch, split.name, rows)
            features, found = self._projected(self.engine, batch, names, "per-sample gradient")
        columns = {
            "features": features,
            "out_to_loss": _checked(found.out_to_loss, names, "out-to-loss gradient"),
            "outputs": _checked(found.outputs, names, "model output"),
            "sample_ids": read_batch.sample_ids,
        }
        if self.signed is not None and split.name == TRAIN:
            filled = torch.tensor(rows + rows[-1:] * (read_batch.size - len(rows)), device=split.device)
            what = "per-sample gradient of the terms"
            columns["term_features"], found = self._projected(self.signed, (batch, filled), names, what)
            columns["terms"] = _checked(found.out_to_loss, names, "number of terms")
        return columns

    def _projected(self, engine: Engine, batch: Any, names: list[str], what: str) -> tuple[np.ndarray[Any, Any], PerSample]:
        with exact():  # once, and not again for every block
            found = engine.per_sample(batch)
            features = self.projector.project(found.blocks) / self.parameters**0.5
        return _checked(features, names, what), found


def _checked(tensor: torch.Tensor, names: list[str], what: str) -> np.ndarray[Any, Any]:
    """The first rows, one for each name, as float32 on the CPU; all of them finite."""
    values = tensor[: len(names)].detach().to("cpu", torch.float32)
    check_finite(values, names, what)
    return values.numpy()
