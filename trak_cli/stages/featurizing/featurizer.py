"""Features of any range of rows of a split under one checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from trak_cli.batches import to_device
from trak_cli.gradients.checks.finite import check_finite
from trak_cli.gradients.contract import Engine, PerSample
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.predicted import ClassPredictor
from trak_cli.projection.contract import Projector
from trak_cli.stages.inputs.microbatches import Microbatch, microbatches
from trak_cli.stages.inputs.prefetch import ReadBatch, read_batch, read_batches
from trak_cli.stages.inputs.split import Split
from trak_cli.stages.inputs.validation import validate_batch
from trak_cli.store.shards import CURVATURE_COLUMNS, FeatureRows
from trak_cli.tasks import Task
from trak_cli.types import TRAIN, AnyArray, Rows
from trak_cli.user_errors import report_user_errors

#: The columns of a shard, by name.
Columns = dict[str, AnyArray]


#: What a second pass is for -> what its columns are in messages.
_SECOND = {
    "terms": ("per-sample gradient of the terms", "number of terms"),
    "classes": ("per-sample gradient of the other classes", "residual"),
}


@dataclass(frozen=True)
class SecondPass:
    """The gradients of a function with random numbers, for training samples; ``curvature``: "terms" or "classes"."""

    engine: Engine
    curvature: str


@dataclass(frozen=True)
class Featurizer:
    """Everything that turns rows of a split into features under one checkpoint.

    Attributes:
        model: whose outputs are stored; its gradients too, unless it has the weights of a checkpoint and ``engine`` those of a
            member that is blended from it.
        parameters: p, the number of selected coordinates.
        microbatch: samples per gradient computation.
        second: the second pass over training samples, for their per-token terms or other classes; None without.
        context: the numerics of a forward pass, such as autocast.
    """

    model: nn.Module
    task: Task
    engine: Engine
    projector: Projector
    parameters: int
    microbatch: int
    second: SecondPass | None = None
    context: Callable[[], AbstractContextManager[None]] = nullcontext

    def rows(self, split: Split, rows: Rows, progress: Callable[[int], None]) -> FeatureRows:
        """The features of ``rows``, in their order, whatever the order of computation.

        Raises:
            InputError: the task refuses a sample, or an output or gradient is not finite.
        """
        shard: Columns = {}
        for batch in read_batches(split, microbatches(split, rows, self.microbatch)):
            columns = self._columns(split, batch)
            inside = [position for position, row in enumerate(batch.rows) if rows.start <= row < rows.stop]
            places = [batch.rows[position] - rows.start for position in inside]
            for name, values in columns.items():
                if name not in shard:
                    shard[name] = np.empty((len(rows), *values.shape[1:]), values.dtype)
                shard[name][places] = values[inside]
            progress(len(inside))
        return FeatureRows(rows, **shard)

    def columns(self, split: Split, microbatch: Microbatch) -> Columns:
        """What a shard stores of the samples of a microbatch, in the order of the microbatch.

        Raises:
            InputError: as for :meth:`rows`.
        """
        return self._columns(split, read_batch(split, microbatch))

    def _columns(self, split: Split, read: ReadBatch) -> Columns:
        rows, batch = read.rows, to_device(read.host, split.device)
        names = [f"sample {row} of {split.name}" for row in rows]
        where = names[0] if len(rows) == 1 else f"samples {', '.join(map(str, rows))} of {split.name}"
        with report_user_errors(where, library=True), exact():  # once for the batch, not for every block
            validate_batch(self.task, self.model, batch, split, rows)
            gradients, predicted = ClassPredictor(self.model, self.task, self.context).with_predictions(self.engine, batch)
            features = self._projected(gradients, names, "per-sample gradient")
            columns = {
                "features": features,
                "out_to_loss": _checked(gradients.out_to_loss, names, "out-to-loss gradient"),
                "outputs": _checked(gradients.outputs, names, "model output"),
                "sample_ids": read.sample_ids,
            }
            if predicted is not None:
                columns["predicted"] = predicted[0][: len(names)].cpu().numpy()
                columns["predicted_probability"] = _checked(predicted[1], names, "probability of the predicted class")
            if self.second is not None and split.name == TRAIN:
                padded = torch.tensor(rows + rows[-1:] * (read.size - len(rows)), device=split.device)
                of_rows, numbers = CURVATURE_COLUMNS[self.second.curvature]
                what, what_number = _SECOND[self.second.curvature]
                gradients = self.second.engine.per_sample((batch, padded))
                columns[of_rows] = self._projected(gradients, names, what)
                columns[numbers] = _checked(gradients.out_to_loss, names, what_number)
        return columns

    def _projected(self, gradients: PerSample, names: list[str], what: str) -> AnyArray:
        return _checked(self.projector.project(gradients.blocks) / self.parameters**0.5, names, what)


def _checked(tensor: torch.Tensor, names: list[str], what: str) -> AnyArray:
    """The first ``len(names)`` rows as float32 on the CPU, after checking that they are finite."""
    values = tensor[: len(names)].detach().to("cpu", torch.float32)
    check_finite(values, names, what)
    return values.numpy()
