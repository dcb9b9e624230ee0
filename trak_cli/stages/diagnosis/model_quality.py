"""The quality of the loaded model on each split, which reveals a wrong checkpoint or wrong preprocessing before a long run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trak_cli.gradients.numerics import exact
from trak_cli.plurals import counted
from trak_cli.stages.featurizing.setup import FeatureSetup
from trak_cli.stages.inputs.probes import Probes
from trak_cli.tasks.quality import Quality
from trak_cli.types import TRAIN
from trak_cli.user_errors import error_summary

#: Samples of one forward pass.
_BATCH = 4


@dataclass(frozen=True)
class SplitQuality:
    """The quality of the model on some samples of a split; ``unknown``: the reason if there is none, else empty."""

    split: str
    samples: int
    quality: Quality | None
    unknown: str = ""

    def __str__(self) -> str:
        if self.quality is None:
            return f"quality unknown on {self.split} ({self.unknown})"
        return f"{self.quality.name} = {self.quality.value:.3g} on {counted(self.samples, 'sample')} of {self.split}"


def model_quality(setup: FeatureSetup, probes: Sequence[Probes]) -> list[SplitQuality]:
    """The quality on each split, from the samples that the probes were chosen from; the training set comes first."""
    return [_quality(setup, split_probes) for split_probes in probes]


def _quality(setup: FeatureSetup, probes: Probes) -> SplitQuality:
    name, count = probes.split.name, len(probes.spread)
    try:
        with exact(), torch.enable_grad():  # a model may compute gradients in its forward pass
            return SplitQuality(name, count, setup.task.quality(setup.model, _batches(setup, probes)))
    except Exception as error:  # features need only what was checked before; a task of the user may not support this
        return SplitQuality(name, count, None, error_summary(error))


def quality_warnings(qualities: Sequence[SplitQuality]) -> list[str]:
    """Warnings: quality near chance, or targets with a much lower quality than the training set."""
    known = {each.split: each.quality for each in qualities if each.quality is not None}
    warnings = []
    near = {split: quality for split, quality in known.items() if quality.near_chance}
    if near:
        first = next(iter(near.values()))
        warnings.append(
            f"{first.name} on {', '.join(near)} is near chance ({first.chance:.3g});"
            " check that the data is preprocessed as in training, and that the checkpoint belongs to this model"
        )
    train = known.get(TRAIN)
    far = [split for split, quality in known.items() if train and split not in near and quality.far_from(train)]
    if train and far:
        warnings.append(
            f"{train.name} on {', '.join(far)} is much worse than on the training set;"
            " check that these targets are preprocessed and labelled like the training set"
        )
    return warnings


def _batches(setup: FeatureSetup, probes: Probes) -> Iterator[Any]:
    """The spread samples, those of similar size together."""
    rows = sorted(probes.spread, key=lambda row: probes.split.size(probes.read[row]))
    size = min(_BATCH, setup.gradients.microbatch or _BATCH)
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        yield probes.split.batch([probes.read[row] for row in chosen], chosen)
