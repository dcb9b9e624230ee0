"""The page of ``trak ask --report``: new targets beside the training samples with the highest and lowest scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.plurals import counted
from trak_cli.report.page import Page, render
from trak_cli.report.payload import Payload, Prediction, Target
from trak_cli.results.neighbours import helpful_and_harmful
from trak_cli.results.new_samples import NewSamples
from trak_cli.results.new_scores import NewScores
from trak_cli.results.outputs.model_outputs import means, read_outputs
from trak_cli.results.outputs.predictions import ClassNames, named_predictions
from trak_cli.results.reporting.describing import Describer
from trak_cli.results.reporting.facts import config_text, facts_of_features
from trak_cli.results.reporting.reliability import of_any_scores
from trak_cli.results.samples import Samples
from trak_cli.store.atomic_write import replace
from trak_cli.types import TRAIN

#: What the page calls their split.
NEW = "new"


def write_page(
    path: Path,
    found: NewScores,
    made: NewSamples,
    training: Samples | None,
    predicted: Mapping[int, Prediction],
    names: ClassNames,
) -> None:
    """Write the page.

    Args:
        predicted: of the new targets, as far as it is known.
        names: of the classes.

    Raises:
        InputError: a data set cannot describe a row.
        MachineError: the file cannot be written.
    """
    inventory = found.inventory
    layout, count = inventory.layout, len(made)
    ends = [helpful_and_harmful(one) for one in found.extremes.each()]
    rows = sorted({row for both in ends for end in both for row, _ in end})
    outputs = {
        NEW: means(range(count), np.stack([found.model.outputs, found.model.out_to_loss], axis=1)),
        TRAIN: read_outputs(layout, inventory.checkpoints, TRAIN, rows),
    }
    new = Samples(NEW, _Shown(made, names))
    describe = Describer(
        {NEW: new, TRAIN: training},
        outputs,
        predicted={NEW: predicted, TRAIN: named_predictions(outputs[TRAIN], training, names.names)},
    )
    payload = Payload(describe, TRAIN, budget=1 << 40)
    for row, (helpful, harmful) in enumerate(ends):
        payload.add(Target(NEW, row, helpful, harmful))
    page = Page(
        title=f"{layout.root.name}: new targets",
        subtitle=f"Training samples behind the model outputs. Estimator {found.estimator},"
        f" {counted(inventory.rows, 'training sample')}.",
        train=TRAIN,
        notes=[f"New targets, made by the data set of split {made.split}; they are in no split of the store.", *_chosen(found)],
        warnings=[],
        reliability={NEW: of_any_scores(inventory.checkpoints)},
        facts={
            NEW: [
                ("store", str(layout.root)),
                ("training samples", f"{inventory.rows:,}"),
                ("estimator", found.estimator),
                *facts_of_features(layout, inventory.features),
            ]
        },
        config=config_text(layout),
        no_suspects=["trak report lists them"],
    )
    replace(path, render(page, payload.json()).encode())


def _chosen(found: NewScores) -> list[str]:
    """What the page says if not all training rows were scored."""
    if found.candidates is None:
        return []
    scored = f"Only {len(found.candidates.rows):,} of {found.inventory.rows:,} training samples were scored"
    return [f"{scored}: candidates that compressed features chose (trak ask --candidates). Others may have higher scores."]


class _Shown:
    """The new targets as a data set that describes them for a page, with labels in the form of those of the training set."""

    def __init__(self, samples: NewSamples, labels: ClassNames) -> None:
        self._samples, self._labels = samples, labels
        self._named = Samples(samples.split, samples)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, i: int) -> Any:
        return self._samples[i]

    def describe(self, i: int) -> dict[str, Any]:
        shown = {name: value for name, value in self._samples.shown(i).items() if name not in self._named.label_names}
        label = self._named.label(i)
        return shown if label is None else {**shown, "label": self._labels.shown(label)}
