"""The protocol "this run" on the models of the other experiments: CLIP, BERT, GPT-2, mT5, a ResNet and a ViT, by AdamW.

python scripts/experiments/this_run.py [bert clip gpt2 mt5 resnet vit] [--subsets 60] [--targets 16]

One run of `trak train` is repeated with its own seed, each time without another random 1 % of the samples (weight 0), and every
method predicts how f of the targets changes. Prints and writes to runs/this_run/lds.csv: the LDS of each method with one
checkpoint, and the paired differences of `trak unroll`, `trak refine` and the default from the cosine of gradients, from the
similarity of representations, and for GPT-2 from bergson's EK-FAC, where it is installed (bergson_peer.py). Trainings are
shorter and gentler than in the other experiments. Rerunning picks up what is stored.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bergson_peer
import clip_digits
import docstrings
import hf_digits
import numpy as np
import planted
import stages
import torch
import tracing
from stages import FOLDER, Array, trak

from trak_cli.attribution.lds.bootstrap import Bootstrap, compare
from trak_cli.attribution.lds.lds import subset_predictions
from trak_cli.config.load import Loaded, load
from trak_cli.stages.training.trainer_run import Training
from trak_cli.store.container import read_image
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores
from trak_cli.types import evenly_spaced

ROOT = Path("runs/this_run")
#: The methods of this program, and what they are compared with.
OURS, OTHERS = ("unroll", "refine", "default"), ("cosine", "representations", "bergson EK-FAC")


@dataclass(frozen=True)
class Experiment:
    """One model.

    Attributes:
        config: name of its configuration.
        split: the target split.
        similar: the similarity of representations (t, n), from the configuration of the run.
        overrides: of the configuration.
        data: writes the data of a run into a folder, for a vocabulary of some size.
    """

    config: str
    split: str
    similar: Callable[[Loaded], Array]
    overrides: tuple[str, ...] = ()
    data: Callable[[Path, int], None] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=[[], *EXPERIMENTS], metavar="MODEL", help=f"of {', '.join(EXPERIMENTS)}")
    parser.add_argument("--subsets", type=int, default=60, help="retrainings")
    parser.add_argument("--targets", type=int, default=16, help="targets, evenly spaced in the split")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.models or EXPERIMENTS:
        start = time.perf_counter()
        report = evaluate(name, EXPERIMENTS[name], arguments.subsets, arguments.targets)
        (ROOT / name / "lds.json").write_text(json.dumps(report, indent=1) + "\n")
        show(name, report, time.perf_counter() - start)
    write_csv({name: ROOT / name / "lds.json" for name in EXPERIMENTS})


def evaluate(name: str, experiment: Experiment, subsets: int, targets: int) -> dict[str, Any]:
    """Run all stages of one experiment; intervals by method and by difference."""
    store = ROOT / name
    here = (*experiment.overrides, f"store={store}", "train.count=1", "ensemble.members=0")
    loaded = load("train", experiment.config, FOLDER, here)
    if experiment.data and not (store / "data" / "tokenizer.json").exists():
        experiment.data(store / "data", loaded.config.model["config"]["vocab_size"])
    for stage in ("train", "featurize", "finalize", "score"):
        trak(stage, experiment.config, *here)
    trak("score", experiment.config, *here, "estimator=cosine")
    rows = evenly_spaced(len(Training(loaded.config, stages.CPU).splits[experiment.split]), targets)
    for stage, more in (("unroll", "unroll.removals=0"), ("refine", "refine.name=refine")):
        trak(stage, experiment.config, *here, f"{stage}.targets={rows.tolist()}", more)
    protocol = ("retrain.same_seed=true", "retrain.drop=0.01", "retrain.models_per_subset=1", f"retrain.subsets={subsets}")
    trak("retrain", experiment.config, *here, *protocol)
    layout = Layout(store)
    stored = {"default": loaded.config.estimator.name, "cosine": "cosine", "unroll": "unroll", "refine": "refine"}
    scores = {label: read_scores(layout.scores(stored[label], experiment.split)) for label in stored}
    scores |= {label: scores[label][rows] for label in ("default", "cosine")}
    scores["representations"] = experiment.similar(loaded)[rows]
    if experiment.config == "facts_gpt2" and bergson_peer.installed():
        (checkpoint,) = (store / "checkpoints").glob("*.safetensors")
        scores["bergson EK-FAC"] = bergson_peer.ekfac(loaded, checkpoint, rows.tolist())
    return compared(scores, layout, experiment.split, rows)


def compared(scores: dict[str, Array], layout: Layout, split: str, rows: Array) -> dict[str, Any]:
    """LDS and paired differences, each as [estimate, low, high]."""
    images = [read_image(layout.retrained(subset, 0)).arrays for subset in layout.retrained_subsets(0)]
    kept = np.stack([image["weights"] for image in images]) > 0
    outputs = np.stack([image[f"outputs_{split}"][0] for image in images])[:, rows]
    predictions = {label: subset_predictions(values, kept) for label, values in scores.items()}
    result = compare(predictions, outputs, Bootstrap(2000, rerank=True))
    both = [*result.differences, *(difference.reversed() for difference in result.differences)]
    return {
        "subsets": len(kept),
        "targets": len(rows),
        "lds": {label: [one.estimate, one.low, one.high] for label, one in result.sets.items()},
        "differences": {
            f"{one.first} - {one.second}": [one.interval.estimate, one.interval.low, one.interval.high]
            for one in both
            if one.first in OURS and one.second in OTHERS
        },
    }


def show(name: str, report: dict[str, Any], seconds: float) -> None:
    print(f"\n{name}: {report['subsets']} retrainings, {report['targets']} targets; {seconds:.0f} s")
    for label, (estimate, low, high) in (report["lds"] | report["differences"]).items():
        print(f"  {label:<28}{estimate:+.3f} ({low:+.3f} to {high:+.3f})", flush=True)


def write_csv(reports: dict[str, Path]) -> None:
    """Write lds.csv of all models that have been evaluated: LDS, and paired differences from the scores in column "minus"."""
    with (ROOT / "lds.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "scores", "minus", "lds", "low", "high"])
        for name, path in reports.items():
            if path.exists():
                report = json.loads(path.read_text())
                for label, values in (report["lds"] | report["differences"]).items():
                    scores, _, minus = label.partition(" - ")
                    writer.writerow([name, scores, minus, *(f"{value:.3f}" for value in values)])


def of_texts(loaded: Loaded) -> Array:
    return stages.similarity(loaded.config, next(iter(loaded.config.dataset.targets)))


def of_images(loaded: Loaded) -> Array:
    return hf_digits.similarity(loaded)


def of_pairs(loaded: Loaded) -> Array:
    return clip_digits.similarity(loaded, Training(loaded.config, stages.CPU))


def facts(folder: Path, vocabulary: int) -> None:
    planted.write(folder)
    tracing.train_tokenizer(folder, vocabulary)


def gentle(epochs: int, rate: float) -> tuple[str, ...]:
    """A training that is smooth enough to be unrolled: few epochs, a small learning rate, and no division by tiny gradients."""
    return f"trainer.epochs={epochs}", f"trainer.lr={rate}", "trainer.eps=1e-5"


EXPERIMENTS = {
    "bert": Experiment("text_bert_adamw", "test", of_texts, gentle(10, 1e-3), docstrings.write),
    "clip": Experiment("clip_digits", "test", of_pairs, gentle(10, 1e-3)),
    "gpt2": Experiment("facts_gpt2", tracing.SPLIT, of_texts, gentle(5, 2e-3), facts),
    "mt5": Experiment("facts_mt5", tracing.SPLIT, of_texts, gentle(5, 2e-3), facts),
    "resnet": Experiment("hf_digits", "test", of_images, ("model.kind=resnet", *gentle(10, 1e-3))),
    "vit": Experiment("hf_digits", "test", of_images, ("model.kind=vit", *gentle(10, 1e-3))),
}

if __name__ == "__main__":
    main()
