"""LDS of the default estimator, of gradient cosines and of representation similarity, on a ResNet and a ViT of transformers.

The models are trained with AdamW, so gradients are scaled by its second moments; results without scaling are printed too.

    python scripts/experiments/hf_digits.py            (or with resnet, or vit)

Uses five checkpoints, and a hundred models retrained on halves of 600 handwritten digits; the stores are runs/hf_digits_KIND.
Representations are the inputs of the last linear layer; their cosine is averaged over the checkpoints.
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

from trak_cli.config.load import Loaded, load
from trak_cli.plugins.checkpoints.files import find
from trak_cli.plugins.checkpoints.state import load as load_weights
from trak_cli.plugins.samples import collate
from trak_cli.stages.inputs.plugins import make_model, make_splits
from trak_cli.types import TRAIN

FOLDER = Path(__file__).parent

Array = np.ndarray[Any, Any]


def main() -> None:
    """Run all stages and print the table of `trak eval-lds`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=("resnet", "vit"), help="default: both")
    chosen = parser.parse_args().kind
    torch.set_num_threads(1)
    for kind in [chosen] if chosen else ["resnet", "vit"]:
        start = time.perf_counter()
        evaluate(kind)
        print(f"{kind}: {time.perf_counter() - start:.0f} s")


def evaluate(kind: str) -> None:
    """Run the experiment for one model."""
    overrides = [f"model.kind={kind}"]
    for stage in ("train", "featurize", "finalize", "score", "retrain"):
        call(stage, overrides)
    for stage in ("finalize", "score"):
        call(stage, [*overrides, "estimator=cosine"])
    store = Path(f"runs/hf_digits_{kind}")
    np.save(store / "similarity.npy", similarity(load("train", "hf_digits", FOLDER, overrides)).astype(np.float32))
    others = {"similarity": store / "similarity.npy", **plain("hf_digits", store, "test", *overrides)}
    listed = [f"+lds.scores.{name}={path}" for name, path in others.items()]
    call("eval-lds", [*overrides, "lds.estimators=[cosine]", *listed])


def call(stage: str, overrides: list[str]) -> None:
    """Call one stage of trak."""
    command = [sys.executable, "-m", "trak_cli", stage, "-d", str(FOLDER), "-n", "hf_digits", *overrides]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def similarity(loaded: Loaded) -> Array:
    """Return cosines of representations (t, n), averaged over the checkpoints."""
    splits, total = make_splits(loaded.config), np.zeros(())
    for path in find(loaded.config.checkpoints.files, loaded.base):
        model = make_model(loaded.config)
        model.load_state_dict(load_weights(path))
        model.eval()
        images = {name: collate(list(splits[name]))[0] for name in (TRAIN, "test")}
        test, train = (representations(model, images[name]) for name in ("test", TRAIN))
        total = total + (test @ train.T).numpy()
    return total


def representations(model: nn.Module, images: Tensor) -> Tensor:
    """Return the inputs of the model's last linear layer as unit vectors, (B, d)."""
    inputs_of_last: list[Tensor] = []
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    handle = last.register_forward_pre_hook(lambda _, inputs: inputs_of_last.append(inputs[0]))
    with torch.no_grad():
        model(images)
    handle.remove()
    return nn.functional.normalize(inputs_of_last[0], dim=-1)


if __name__ == "__main__":
    main()
