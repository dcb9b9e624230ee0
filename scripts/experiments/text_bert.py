"""Docstrings by package, by a small BERT: LDS of the default estimator, of gradient cosines and of representation similarity.

python scripts/experiments/text_bert.py             trained by SGD; text_bert_adamw.py: by AdamW
"""

from __future__ import annotations

import json
from pathlib import Path

import docstrings
import numpy as np
from stages import config_of, plain, shared, similarity, trak

SPLIT = "test"


def main() -> None:
    evaluate("text_bert")


def evaluate(name: str) -> None:
    """All stages of one experiment, and its table."""
    config = config_of(name)
    store = Path(config.store)
    if not (store / "data" / "tokenizer.json").exists():
        docstrings.write(store / "data", config.model["config"]["vocab_size"])
    for stage in ("train", "featurize", "finalize", "score"):
        trak(stage, name)
    trak("score", name, "estimator=cosine")
    shared("retrain", name)
    np.save(store / "representations.npy", similarity(config, SPLIT))
    others = {"representations": store / "representations.npy"}
    if "AdamW" in config.trainer["_target_"]:
        others |= plain(name, store, SPLIT)
    listed = [f"+lds.scores.{label}={path}" for label, path in others.items()]
    trak("eval-lds", name, "lds.estimators=[cosine]", *listed)
    report = json.loads((store / "lds" / f"{SPLIT}.json").read_text())
    print(f"noise ceiling {report['noise_ceiling']}")
    for score_set in report["scores"]:
        lds = score_set["lds"]
        print(f"{score_set['name']:<16} LDS {lds['estimate']:.3f} ({lds['low']:.3f} to {lds['high']:.3f})")


if __name__ == "__main__":
    main()
