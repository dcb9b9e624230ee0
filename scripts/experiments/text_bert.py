"""Docstrings by package, by a small BERT: LDS of the default estimator, of gradient cosines and of representation similarity.

python scripts/experiments/text_bert.py
"""

from __future__ import annotations

import json
from pathlib import Path

import docstrings
import numpy as np
from stages import config_of, similarity, trak

NAME = "text_bert"


def main() -> None:
    config = config_of(NAME)
    store = Path(config.store)
    if not (store / "data" / "tokenizer.json").exists():
        docstrings.write(store / "data", config.model["config"]["vocab_size"])
    for stage in ("train", "featurize", "finalize", "score"):
        trak(stage, NAME)
    trak("score", NAME, "estimator=cosine")
    trak("retrain", NAME)
    np.save(store / "representations.npy", similarity(NAME, "test"))
    given = f"lds.scores={{representations: {store}/representations.npy}}"
    trak("eval-lds", NAME, "lds.estimators=[cosine]", given)
    report = json.loads((store / "lds" / "test.json").read_text())
    print(f"noise ceiling {report['noise_ceiling']:.3f}")
    for one in report["scores"]:
        print(f"{one['name']:<16} LDS {one['lds']:.3f} ({one['low']:.3f} to {one['high']:.3f})")


if __name__ == "__main__":
    main()
