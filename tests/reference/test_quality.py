"""Quality of the defaults on the reference ground truth: LDS with no ground truth used, mean over projection seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_data import gradients

from trak_cli.attribution import MEMBERS, lds, scores
from trak_cli.plugins import sha256
from trak_cli.projection import ProjectionSpec, make_projector
from trak_cli.types import Block

SEEDS = range(5)
#: LDS by number of checkpoints that each estimator must reach.
BARS = {"balanced": {1: 0.34, 5: 0.44, 10: 0.46}, "trak": {1: 0.16, 5: 0.24, 10: 0.26}}


@pytest.mark.slow
def test_lds_of_the_default_and_of_the_papers_estimator(reference: Path) -> None:
    split, truth = np.load(reference / "split.npz"), np.load(reference / "groundtruth.npz")
    rows = np.concatenate([split["train_index"], split["target_index"]])
    n = len(split["train_index"])
    features: dict[int, list[Any]] = {seed: [] for seed in SEEDS}
    weights = []
    for checkpoint in range(10):
        path = reference / f"full_{checkpoint}.pt"
        gradient, out_to_loss = gradients(path, rows)
        weights.append(out_to_loss[:n])
        for seed in SEEDS:
            spec = ProjectionSpec("rademacher", 512, seed)
            projector = make_projector(spec, sha256(path), {"all": gradient.shape[1]}, device=torch.device("cpu"))
            features[seed].append((projector.project([Block("all", gradient)]) / gradient.shape[1] ** 0.5).numpy())
    for name, bars in BARS.items():
        measured = {}
        for count in bars:
            per_seed = []
            for seed in SEEDS:
                X = [one[:n] for one in features[seed][:count]]
                T = [one[n:] for one in features[seed][:count]]
                found = scores(MEMBERS[name], X, weights[:count], T)
                per_seed.append(lds(found, truth["masks"], truth["outputs"]).mean)
            measured[count] = float(np.mean(per_seed))
        print(name, {count: round(value, 3) for count, value in measured.items()})
        assert all(measured[count] >= bar for count, bar in bars.items()), (name, measured)
