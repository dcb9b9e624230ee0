"""Convert a published CIFAR ground truth (masks and margins as .npy files) to a file for `lds.ground_truth`.

python scripts/lds/published.py MASKS.npy MARGINS.npy OUT.npz [--subsets 1000] [--targets 1000]

MASKS is (models, training samples), true or 1 where the sample was in the model's training set; MARGINS (models, test samples),
the margin of the right class. Equal rows of MASKS are models of one subset; every subset must have the same number of models.
Both files are memory-mapped: only the selected rows are read.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("masks", type=Path)
    parser.add_argument("margins", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subsets", type=int, default=1000, help="models to take, from the first")
    parser.add_argument("--targets", type=int, default=1000, help="test samples to take, from the first")
    arguments = parser.parse_args()
    masks, margins = np.load(arguments.masks, mmap_mode="r"), np.load(arguments.margins, mmap_mode="r")
    if masks.ndim != 2 or margins.ndim != 2 or len(masks) != len(margins):
        raise SystemExit(f"found masks {masks.shape} and margins {margins.shape}; expected (models, n) and (models, t)")
    kept, outputs = grouped(masks[: arguments.subsets] > 0, margins[: arguments.subsets, : arguments.targets])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(arguments.out, masks=kept, outputs=outputs)
    print(
        f"{arguments.out}: {len(kept)} subsets of {kept.shape[1]} samples, outputs (subsets, models, targets) {outputs.shape}"
    )


def grouped(masks: Array, margins: Array) -> tuple[Array, Array]:
    """Masks (s, n) bool and outputs (s, models, t) float32, in the order in which subsets first occur."""
    members: dict[bytes, list[int]] = {}
    for row, mask in enumerate(masks):
        members.setdefault(np.packbits(mask).tobytes(), []).append(row)
    if len({len(rows) for rows in members.values()}) > 1:
        raise SystemExit("found subsets with different numbers of models; expected the same for each")
    rows = np.array(list(members.values()))
    return np.asarray(masks[rows[:, 0]]), np.asarray(margins, np.float32)[rows]


if __name__ == "__main__":
    main()
