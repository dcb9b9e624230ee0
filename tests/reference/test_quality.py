"""Quality on the reference ground truth: LDS with no ground truth used, mean over projection seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from reference_data import gradients

from trak_cli.attribution import MEMBERS, lds, scores
from trak_cli.config import TrakConfig
from trak_cli.plugins import sha256
from trak_cli.projection import ProjectionSpec, make_projector
from trak_cli.types import Block, Float32

SEEDS = range(5)
COUNTS = (1, 5, 10)
#: LDS with 1, 5 and 10 checkpoints that each estimator must reach, by what the checkpoints were trained on.
BARS = {
    ("trajectory", "full"): (0.34, 0.45, 0.47),
    ("trajectory", "half"): (0.45, 0.54, 0.55),
    ("balanced", "full"): (0.34, 0.44, 0.46),
    ("trak", "full"): (0.16, 0.24, 0.26),
}


@pytest.mark.slow
@pytest.mark.parametrize("trained_on", ["full", "half"])
def test_lds_with_the_default_projection(reference: Path, trained_on: str) -> None:
    split, truth = np.load(reference / "split.npz"), np.load(reference / "groundtruth.npz")
    rows = np.concatenate([split["train_index"], split["target_index"]])
    n = len(split["train_index"])
    default = TrakConfig().projection
    features: dict[int, list[Float32]] = {seed: [] for seed in SEEDS}
    outputs, out_to_loss = [], []
    for checkpoint in range(max(COUNTS)):
        path = reference / f"{trained_on}_{checkpoint}.pt"
        found = gradients(path, rows)
        outputs.append(found.outputs[:n])
        out_to_loss.append(found.out_to_loss[:n])
        p = found.gradients.shape[1]
        for seed in SEEDS:
            spec = ProjectionSpec(default.kind, default.dim, seed, default.nonzeros)
            projector = make_projector(spec, sha256(path), {"all": p}, device=torch.device("cpu"))
            features[seed].append((projector.project([Block("all", found.gradients)]) / p**0.5).numpy())
    for name in [name for name, on in BARS if on == trained_on]:
        measured = []
        for count in COUNTS:
            per_seed = []
            for seed in SEEDS:
                X = [one[:n] for one in features[seed][:count]]
                T = [one[n:] for one in features[seed][:count]]
                found_scores = scores(MEMBERS[name], X, out_to_loss[:count], T, outputs[:count])
                per_seed.append(lds(found_scores, truth["masks"], truth["outputs"]).mean)
            measured.append(float(np.mean(per_seed)))
        print(trained_on, name, [round(value, 3) for value in measured])
        bars = BARS[name, trained_on]
        assert all(value >= bar for value, bar in zip(measured, bars, strict=True)), (name, measured)
