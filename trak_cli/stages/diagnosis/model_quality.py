"""How good the loaded model is on each split, so that a model that is not the user's model shows before hours are spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trak_cli.gradients.numerics import exact
from trak_cli.stages.featurizing.setup import FeatureSetup
from trak_cli.stages.inputs.probes import Probes
from trak_cli.tasks.quality import Quality

#: Samples of one forward pass.
_BATCH = 8


@dataclass(frozen=True)
class SplitQuality:
    """How good the model is on some samples of a split."""

    split: str
    samples: int
    quality: Quality

    def __str__(self) -> str:
        return f"{self.quality.name} {self.quality.value:.3g} on {self.samples} samples of {self.split}"


def model_quality(setup: FeatureSetup, probes: Sequence[Probes]) -> list[SplitQuality]:
    """The quality on each split, from the samples that the probes were chosen from; the training set comes first."""
    with exact(), torch.no_grad():
        return [
            SplitQuality(one.split.name, len(one.spread), setup.task.quality(setup.model, _batches(setup, one)))
            for one in probes
        ]


def quality_warnings(qualities: Sequence[SplitQuality]) -> list[str]:
    """What looks wrong: a model near chance, or targets on which it is much worse than on the training set."""
    train, *targets = qualities
    warnings = []
    near = [each for each in qualities if each.quality.near_chance]
    if near:
        names = ", ".join(each.split for each in near)
        warnings.append(
            f"{near[0].quality.name} near {near[0].quality.chance:.3g}, what a model that knows nothing gets, on {names}:"
            " does the data come preprocessed as in training, and does the checkpoint belong to this model?"
        )
    far = [each for each in targets if each not in near and each.quality.far_from(train.quality)]
    if far:
        warnings.append(
            f"{far[0].quality.name} far from that of the training set on {', '.join(each.split for each in far)}:"
            " are these targets preprocessed and labelled like the training set?"
        )
    return warnings


def _batches(setup: FeatureSetup, probes: Probes) -> Iterator[Any]:
    """The spread samples, those of similar size together."""
    rows = sorted(probes.spread, key=lambda row: probes.split.size(probes.read[row]))
    size = min(_BATCH, setup.gradients.microbatch or _BATCH)
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        yield probes.split.batch([probes.read[row] for row in chosen], chosen)
