"""Fact tracing: are the sentences that state a fact ranked highest, and how does f change when they are removed?

Used by facts_gpt2.py and facts_mt5.py.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import repeat
from pathlib import Path

import numpy as np
import planted
import torch
from stages import CPU, Array, config_of, similarity, trained, trak, with_error

from trak_cli.batches import to_device
from trak_cli.config.schema import TrakConfig
from trak_cli.stages.training.trainer_run import Training
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

#: Share of the training set that the counterfactual check removes, and the number of random removals.
SHARE, RANDOM = 0.05, 4
#: Processes that retrain models.
WORKERS = 2
SPLIT = "questions"


def trace(name: str) -> None:
    """Run and print the whole experiment; the option ``--questions`` sets how many questions models are retrained for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, default=20, help="questions whose top 5 %% are removed, one at a time")
    retrained_questions = parser.parse_args().questions
    config = config_of(name)
    store = Path(config.store)
    if not (store / "data" / "tokenizer.json").exists():
        planted.write(store / "data")
        train_tokenizer(store / "data", config.model["config"]["vocab_size"])
    for stage in ("train", "featurize", "finalize", "score"):
        trak(stage, name)
    with_q = ("estimator=trak", "estimator.name=with_q", "estimator.ridge=2", "estimator.ridge_unit=mean_norm")
    for stage in ("finalize", "score"):
        trak(stage, name, *with_q)
    trak("score", name, "estimator=cosine")
    train, questions = rows_of(store, "train"), rows_of(store, SPLIT)
    stated = np.array([row["fact"] for row in train]) == np.array([row["fact"] for row in questions])[:, None]
    print(f"{len(train)} sentences, {len(questions)} questions, {known(config):.0%} answered right")
    scores = {
        "default": scores_of(config, config.estimator.name),
        "weighted with q": scores_of(config, "with_q"),
        "cosine of gradients": scores_of(config, "cosine"),
        "representations": similarity(config, SPLIT),
        "BM25, question and answer": bm25(train, [row["text"] for row in questions]),
        "BM25, question alone": bm25(train, [row["prompt"] for row in questions]),
    }
    report(scores, stated)
    counterfactual(config, {key: scores[key] for key in ("default", "representations")}, retrained_questions)


def report(scores: Mapping[str, Array], stated: Array) -> None:
    """Print recall@10 and MRR of each method, and the paired differences from the better BM25."""
    tables = {label: retrieval(values, stated) for label, values in scores.items()}
    for label, (recall, reciprocal) in tables.items():
        print(
            f"{label:<26} recall@10 {recall.mean():.3f} {interval(recall)}   MRR {reciprocal.mean():.3f} {interval(reciprocal)}"
        )
    theirs = tables["BM25, question and answer"]
    for label in ("default", "weighted with q"):
        recall, reciprocal = (mine - other for mine, other in zip(tables[label], theirs, strict=True))
        line = f"recall@10 {recall.mean():+.3f} {interval(recall)}   MRR {reciprocal.mean():+.3f} {interval(reciprocal)}"
        print(f"{label + ' − BM25':<26} {line}")


def train_tokenizer(folder: Path, vocabulary: int) -> None:
    """Train a byte-level BPE tokenizer on the training sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=["<pad>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator([json.loads(line)["text"] for line in (folder / "train.jsonl").open()], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def rows_of(store: Path, split: str) -> list[dict[str, str]]:
    """Return the rows of a split's file."""
    return [json.loads(line) for line in (store / "data" / f"{split}.jsonl").open()]


def known(config: TrakConfig) -> float:
    """Return the share of questions for which every answer token is the most likely one, averaged over checkpoints."""
    shares = []
    for parts, model in trained(config):
        dataset = parts.splits[SPLIT]
        batch = to_device(parts.collate([dataset[i] for i in range(len(dataset))]), CPU)
        with torch.no_grad():
            logits, right = parts.task.predicted(model, batch)  # type: ignore[attr-defined]
        shares.append(float(((logits.argmax(-1) == right) | (right < 0)).all(1).float().mean()))
    return float(np.mean(shares))


def bm25(train: list[dict[str, str]], queries: list[str]) -> Array:
    """Return BM25 scores (queries, n) of the lower-case words."""
    from rank_bm25 import BM25Okapi

    index = BM25Okapi([row["text"].lower().split() for row in train])
    return np.stack([index.get_scores(query.lower().split()) for query in queries])


def retrieval(scores: Array, stated: Array) -> tuple[Array, Array]:
    """Return recall@10 and the reciprocal rank of the first relevant sentence, for each question.

    Ties are broken at random, because BM25 gives many equal scores.
    """
    ties = np.random.default_rng(0).random(scores.shape[1])
    order = np.stack([np.lexsort((ties, -row)) for row in scores])
    hits = np.take_along_axis(stated, order, axis=1)
    return hits[:, :10].sum(1) / stated.sum(1), 1 / (1 + hits.argmax(1))


def interval(values: Array) -> str:
    """Return the 95 % bootstrap interval of a mean over questions."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"({low:.3f} to {high:.3f})"


def counterfactual(config: TrakConfig, scores: Mapping[str, Array], questions: int) -> None:
    """Print how much f of a question falls when its top 5 % of the training set, or a random 5 %, are removed."""
    training = _training(config.name)
    count = round(SHARE * training.rows)
    chosen = np.random.default_rng(1).choice(len(next(iter(scores.values()))), questions, replace=False)
    rng = np.random.default_rng(2)
    _, model = next(trained(config))  # the checkpoint of the same seed
    with_all = training.outputs(model, SPLIT).astype(np.float64)
    # A random choice does not depend on the question, so the same few models serve all questions.
    left_out = {("random", i): rng.choice(training.rows, count, replace=False) for i in range(RANDOM)}
    left_out |= {(name, i): np.argsort(-values[i])[:count] for name, values in scores.items() for i in chosen}
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        outputs = dict(zip(left_out, pool.map(_outputs, repeat(config.name), left_out.values()), strict=True))
    falls = {name: np.array([(with_all - outputs[name, i])[i] for i in chosen]) for name in scores}
    falls["random"] = np.mean([with_all - outputs["random", i] for i in range(RANDOM)], axis=0)[chosen]
    for name, values in falls.items():
        print(f"without the top 5 % by {name:<18} f falls by {with_error(values)} ({', '.join(f'{v:.1f}' for v in values)})")
    for name in [name for name in falls if name != "default"]:
        better = falls["default"] - falls[name]
        print(f"default − {name:<18} {with_error(better)}, larger for {int((better > 0).sum())} of {questions} questions")


@cache
def _training(name: str) -> Training:
    torch.set_num_threads(1)
    return Training(config_of(name), CPU)


def _outputs(name: str, left_out: Array) -> Array:
    """Return f of every question, for a model trained without some rows."""
    training = _training(name)
    kept = np.setdiff1d(np.arange(training.rows), left_out).tolist()
    return training.outputs(training.model(kept, seed=0), SPLIT).astype(np.float64)


def scores_of(config: TrakConfig, estimator: str) -> Array:
    """Read scores (questions, n) from the store."""
    return read_scores(Layout(Path(config.store)).scores(estimator, SPLIT)).astype(np.float64)
