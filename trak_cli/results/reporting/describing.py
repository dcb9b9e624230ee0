"""The samples of a report: described by their data sets, with what the store says about them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trak_cli.report.payload import Label, Prediction, Sample
from trak_cli.report.values import Value
from trak_cli.results.outputs.model_outputs import Outputs
from trak_cli.results.samples import Samples
from trak_cli.types import TRAIN, Float64


@dataclass(frozen=True)
class Describer:
    """Samples by split and row.

    Attributes:
        samples: of each split; None if the configuration has no such data set.
        outputs: of the model, of each split.
        self_influence: (n,) of training rows; None if it is not known.
        predicted: what the model predicts, where it is known: of each split, by row.
    """

    samples: Mapping[str, Samples | None]
    outputs: Mapping[str, Outputs]
    self_influence: Float64 | None = None
    predicted: Mapping[str, Mapping[int, Prediction]] = field(default_factory=dict)

    def __call__(self, split: str, row: int) -> Sample:
        """One sample.

        Raises:
            InputError: the data set cannot describe it.
        """
        samples, outputs = self.samples[split], self.outputs[split]
        label = _finite(samples.label(row)) if samples is not None else None
        values = () if samples is None else _shown(samples.values(row), samples.label_names)
        return Sample(
            values,
            label,
            outputs.outputs.get(row),
            outputs.probabilities.get(row),
            float(self.self_influence[row]) if self.self_influence is not None and split == TRAIN else None,
            self.predicted.get(split, {}).get(row),
        )


def _shown(values: Sequence[Value], label_names: Sequence[str]) -> list[Value]:
    """Without the label, which is shown by itself, and without texts that are repeated with marked tokens."""
    marked = "".join("".join(value.content.tokens) for value in values if value.kind == "tokens")
    repeated = "".join(marked.split())
    return [
        value
        for value in values
        if not (value.kind in ("text", "number") and value.name in label_names)
        and not (value.kind == "text" and value.content.strip() and "".join(value.content.split()) in repeated)
    ]


def _finite(label: Label | None) -> Label | None:
    return None if isinstance(label, float) and not math.isfinite(label) else label
