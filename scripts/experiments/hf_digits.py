"""LDS of the default estimator, of gradient cosines and of representation similarity, on a ResNet and a ViT of transformers.

The models are trained by AdamW, so gradients are scaled by its second moments; results without this scaling are shown too.

    python scripts/experiments/hf_digits.py            (or with resnet, or vit)

Five checkpoints, and a hundred models retrained on halves of 600 handwritten digits; the stores are runs/hf_digits_KIND.
Representations are the inputs of the last linear layer, compared by their cosine, the mean over the checkpoints.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stages import plain
from torch import Tensor, nn

from trak_cli.config.load import load
from trak_cli.plugins.checkpoints.files import find
from trak_cli.plugins.checkpoints.state import load as load_weights
from trak_cli.plugins.samples import collate
from trak_cli.stages.inputs.plugins import make_model, make_splits
from trak_cli.types import TRAIN

FOLDER = Path(__file__).parent

Array = np.ndarray[Any, Any]


def main() -> None:
    """All stages, and the table of `trak eval-lds`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=("resnet", "vit"), help="default: one after the other")
    asked = parser.parse_args().kind
    torch.set_num_threads(1)
    for kind in [asked] if asked else ["resnet", "vit"]:
        start = time.perf_counter()
        evaluate(kind)
        print(f"{kind}: {time.perf_counter() - start:.0f} s")


def evaluate(kind: str) -> None:
    """One model."""
    overrides = [f"model.kind={kind}"]
    for stage in ("train", "featurize", "finalize", "score", "retrain"):
        call(stage, overrides)
    for stage in ("finalize", "score"):
        call(stage, [*overrides, "estimator=cosine"])
    store = Path(f"runs/hf_digits_{kind}")
    np.save(store / "similarity.npy", similarity(overrides).astype(np.float32))
    others = {"similarity": store / "similarity.npy", **plain("hf_digits", store, "test", *overrides)}
    listed = [f"+lds.scores.{name}={path}" for name, path in others.items()]
    call("eval-lds", [*overrides, "lds.estimators=[cosine]", *listed])


def call(stage: str, overrides: list[str]) -> None:
    """One call of the program."""
    command = [sys.executable, "-m", "trak_cli", stage, "-d", str(FOLDER), "-n", "hf_digits", *overrides]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def similarity(overrides: list[str]) -> Array:
    """Cosines of representations, (t, n), the mean over the checkpoints."""
    loaded = load("train", "hf_digits", FOLDER, overrides)
    splits, total = make_splits(loaded.config), np.zeros(())
    for path in find(loaded.config.checkpoints, loaded.base):
        model = make_model(loaded.config)
        model.load_state_dict(load_weights(path))
        images = {name: collate(list(splits[name]))[0] for name in (TRAIN, "test")}
        one, other = (representations(model, images[name]) for name in ("test", TRAIN))
        total = total + (one @ other.T).numpy()
    return total


def representations(model: nn.Module, images: Tensor) -> Tensor:
    """What the last linear layer of the model is given, as unit vectors, (B, d)."""
    held: list[Tensor] = []
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    handle = last.register_forward_pre_hook(lambda _, inputs: held.append(inputs[0]))
    with torch.no_grad():
        model(images)
    handle.remove()
    return nn.functional.normalize(held[0], dim=-1)


if __name__ == "__main__":
    main()
