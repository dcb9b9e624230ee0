"""Docstrings by package, by a small BERT: LDS of the default estimator, of gradient cosines and of representation similarity.

python scripts/experiments/text_bert.py
"""

from __future__ import annotations

import json
from pathlib import Path

import docstrings
import numpy as np
from stages import config_of, similarity, trak

from trak_cli.store import Layout, read_scores

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
    others = {"representations": f"{store}/representations.npy", **plain(store)}
    listed = [f"+lds.scores.{name}={path}" for name, path in others.items()]
    trak("eval-lds", NAME, "lds.estimators=[cosine]", *listed)
    report = json.loads((store / "lds" / "test.json").read_text())
    print(f"noise ceiling {report['noise_ceiling']:.3f}")
    for one in report["scores"]:
        print(f"{one['name']:<16} LDS {one['lds']:.3f} ({one['low']:.3f} to {one['high']:.3f})")


def plain(store: Path) -> dict[str, str]:
    """The same estimators on gradients without Adam's scales, under the same checkpoints: name -> file."""
    other = Path(f"{store}_plain")
    more = ["gradients.optimizer=sgd", f"store={other}", f"checkpoints={store}/checkpoints/*.safetensors"]
    data = (store / "data").resolve()
    other.mkdir(exist_ok=True)
    if not (other / "data").exists():
        (other / "data").symlink_to(data)
    trak("featurize", NAME, *more)
    found = {}
    for estimator, stages in (("trajectory", ("finalize", "score")), ("cosine", ("score",))):
        for stage in stages:
            trak(stage, NAME, *more, f"estimator={estimator}")
        found[f"{estimator}_plain"] = f"{other}/{estimator}.npy"
        np.save(found[f"{estimator}_plain"], read_scores(Layout(other).scores(estimator, "test")))
    return found


if __name__ == "__main__":
    main()
