"""LDS of `trak unroll` and of other estimators for one run: 1 % of the samples left out, same seed.

    python scripts/experiments/unrolling.py [SETTING ...]      (all settings by default)

Small settings with smooth networks: a CNN on digits and an MLP on a table of scikit-learn, by SGD and by AdamW, and a
transformer by AdamW on docstrings of installed packages. The stores are in runs/unrolling/SETTING. Every finished setting
replaces its rows in docs/results/unrolling.csv.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.config.load import load
from trak_cli.stages.eval_lds import eval_lds
from trak_cli.stages.featurize import featurize
from trak_cli.stages.finalize import finalize
from trak_cli.stages.retrain import retrain
from trak_cli.stages.score import score
from trak_cli.stages.train import train
from trak_cli.stages.unroll import unroll
from trak_cli.types import Silent

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "docs" / "results" / "unrolling.csv"
TARGETS, SUBSETS = 24, 32

#: Estimators that `trak score` computes from one checkpoint.
ESTIMATORS = ("early_training", "trak", "cosine", "dot")

SETTINGS: dict[str, list[str]] = {
    "table": [
        *("model={_target_: unrolling_models.SmoothMLP, inputs: 30, outputs: 2}", "trainer.lr=0.02", "trainer.epochs=20"),
        "trainer.batch_size=32",
    ],
    "digits": [
        *("dataset=digits", "dataset.train.train=600", "+dataset.targets.test.train=600"),
        *("model={_target_: unrolling_models.SmoothCNN}", "trainer.lr=0.08", "trainer.epochs=16", "trainer.batch_size=64"),
    ],
    "table_adamw": [
        *("model={_target_: unrolling_models.SmoothMLP, inputs: 30, outputs: 2}", "trainer=adamw", "trainer.lr=0.005"),
        *("trainer.epochs=15", "trainer.batch_size=32"),
    ],
    "digits_adamw": [
        *("dataset=digits", "dataset.train.train=600", "+dataset.targets.test.train=600"),
        *("model={_target_: unrolling_models.SmoothCNN}", "trainer=adamw", "trainer.lr=0.005"),
        *("trainer.epochs=10", "trainer.batch_size=32"),
    ],
    "digits_adamw_eps": [
        *("dataset=digits", "dataset.train.train=600", "+dataset.targets.test.train=600"),
        *("model={_target_: unrolling_models.SmoothCNN}", "trainer=adamw", "trainer.lr=0.005", "trainer.eps=1e-5"),
        *("trainer.epochs=10", "trainer.batch_size=32"),
    ],
    "text": [
        *("model={_target_: unrolling_models.SmallEncoder, classes: 4, words: 1000}", "trainer=adamw", "trainer.lr=0.002"),
        *("trainer.epochs=8", "trainer.batch_size=32"),
    ],
}


def main(names: list[str]) -> None:
    """Run the settings, and write their rows."""
    sys.path.insert(0, str(HERE))
    for name in names or list(SETTINGS):
        rows = measured(name)
        old = list(csv.DictReader(RESULTS.open())) if RESULTS.exists() else []
        kept = [row for row in old if row["setting"] != name]
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows([*kept, *rows])


def measured(name: str) -> list[dict[str, Any]]:
    """The LDS of every estimator on one setting."""
    targets = f"{list(range(TARGETS))}"
    run = ["device=cpu", "threads=1", "train.count=1", f"store=runs/unrolling/{name}", "projection.dim=1024", *SETTINGS[name]]
    run += ["ensemble.members=0"]
    run += ["checkpoints=${store}/checkpoints/full_0.safetensors", *data_of(name)]
    same = ["retrain.same_seed=true", "retrain.drop=0.01", f"retrain.subsets={SUBSETS}"]
    train(load("train", None, None, run), Silent())
    found = unroll(load("unroll", None, None, [*run, f"unroll.targets={targets}"]), Silent())
    effort, smoothness = found.effort, found.smoothness
    print(name, found.checkpoint, "" if smoothness is None else smoothness.verdict, sep="\n")
    if effort.sweeps:
        times = f"training {effort.training_seconds:.1f} s, {effort.ratio:.1f} trainings for each target"
        print(times, f"peak memory {effort.peak_mb:.0f} MiB", sep=", ", flush=True)
    retrain(load("retrain", None, None, [*run, *same]), Silent())
    featurize(load("featurize", None, None, run), Silent())
    for estimator in ESTIMATORS:
        options = [*run, f"estimator={estimator}"]
        finalize(load("finalize", None, None, options), Silent())
        score(load("score", None, None, options), Silent())
    first, *others = ["unroll", *ESTIMATORS]
    options = [*run, *same, f"lds.targets={targets}", "lds.plot=false", f"estimator.name={first}"]
    summary = eval_lds(load("eval-lds", None, None, [*options, f"lds.estimators=[{', '.join(others)}]"]), Silent())
    rank = float("nan") if smoothness is None else smoothness.rank_correlation
    rows = []
    for one in summary.score_sets:
        less = (
            [""] * 3
            if one.difference is None
            else [
                f"{-value:.3f}"
                for value in (one.difference.interval.estimate, one.difference.interval.high, one.difference.interval.low)
            ]
        )
        rows.append(
            {
                "setting": name,
                "estimator": one.name,
                "lds": f"{one.lds.estimate:.3f}",
                "low": f"{one.lds.low:.3f}",
                "high": f"{one.lds.high:.3f}",
                **dict(zip(("unroll_minus_it", "difference_low", "difference_high"), less, strict=True)),
                "targets": summary.targets,
                "subsets": summary.subsets,
                "check": f"{rank:.2f}",
            }
        )
        print(*rows[-1].values(), flush=True)
    return rows


def data_of(name: str) -> list[str]:
    """The overrides that name the data of a setting; files are written unless they exist."""
    if name.startswith("digits"):
        return []
    folder = Path("runs/unrolling/data")
    folder.mkdir(parents=True, exist_ok=True)
    paths = {split: folder / f"{name}_{split}.npz" for split in ("train", "test")}
    if not all(path.exists() for path in paths.values()):
        x, y = table() if name.startswith("table") else text()
        order = np.random.default_rng(0).permutation(len(x))
        test = order[-100:]
        np.savez(paths["test"], x=x[test], y=y[test])
        np.savez(paths["train"], x=x[order[:-100][:600]], y=y[order[:-100][:600]])
    plugin = "_target_: trak_cli.plugins.SampleFile"
    return [f"dataset.train={{{plugin}, path: {paths['train']}}}", f"+dataset.targets.test={{{plugin}, path: {paths['test']}}}"]


def table() -> tuple[np.ndarray, np.ndarray]:
    """Tumours of scikit-learn, standardised, with 10 % of the labels changed."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    x = ((found.data - found.data.mean(0)) / found.data.std(0)).astype(np.float32)
    changed = np.random.default_rng(1).random(len(x)) < 0.1
    return x, np.where(changed, 1 - found.target, found.target).astype(np.int64)


def text() -> tuple[np.ndarray, np.ndarray]:
    """Docstrings by the package that they come from: the ids of their first 16 words."""
    import importlib
    import inspect
    import pkgutil

    documents, labels = [], []
    for label, package in enumerate(("numpy", "torch.nn", "sklearn", "scipy")):
        module = importlib.import_module(package)
        texts: set[str] = set()
        for found in pkgutil.iter_modules(module.__path__, f"{package}."):
            if found.name.rpartition(".")[2].startswith(("_", "test", "conftest")):
                continue
            try:
                inner = importlib.import_module(found.name)
            except Exception:  # optional parts of these packages
                continue
            texts |= {inspect.getdoc(value) or "" for _, value in inspect.getmembers(inner, callable)}
        chosen = sorted(one for one in texts if len(one.split()) >= 8)[:250]
        documents += [one.lower().split()[:16] for one in chosen]
        labels += [label] * len(chosen)
    known: dict[str, int] = {}
    for document in documents:
        for word in document:
            known[word] = known.get(word, 0) + 1
    ids = {word: number + 1 for number, word in enumerate(sorted(known, key=lambda word: (-known[word], word))[:999])}
    x = np.zeros((len(documents), 16), np.int64)
    for row, document in enumerate(documents):
        numbers = [ids[word] for word in document if word in ids]
        x[row, : len(numbers)] = numbers
    keep = (x != 0).any(1)
    return x[keep], np.array(labels)[keep]


if __name__ == "__main__":
    main(sys.argv[1:])
