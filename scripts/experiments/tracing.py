"""Fact tracing: do the highest scores fall on the sentences that state the fact? And what happens without them?

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

#: Of the training set, removed in the counterfactual check, and how often at random.
SHARE, RANDOM = 0.05, 4
#: Processes that train models again.
WORKERS = 2
SPLIT = "questions"


def trace(name: str) -> None:
    """The whole experiment, printed; an option of the command line says for how many questions models are trained again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, default=20, help="whose top 5 %% are left out, one at a time")
    questions_asked = parser.parse_args().questions
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
    print(f"{len(train)} sentences, {len(questions)} questions, {known(name):.0%} answered right")
    scores = {
        "default": scores_of(config, config.estimator.name),
        "weighted with q": scores_of(config, "with_q"),
        "cosine of gradients": scores_of(config, "cosine"),
        "representations": similarity(name, SPLIT),
        "BM25, question and answer": bm25(train, [row["text"] for row in questions]),
        "BM25, question alone": bm25(train, [row["prompt"] for row in questions]),
    }
    report(scores, stated)
    counterfactual(config, {key: scores[key] for key in ("default", "representations")}, questions_asked)


def report(scores: Mapping[str, Array], stated: Array) -> None:
    """Print recall@10 and MRR of each, and how far ours is above the best of BM25, question by question."""
    tables = {label: found(one, stated) for label, one in scores.items()}
    for label, (recall, reciprocal) in tables.items():
        print(
            f"{label:<26} recall@10 {recall.mean():.3f} {interval(recall)}   MRR {reciprocal.mean():.3f} {interval(reciprocal)}"
        )
    theirs = tables["BM25, question and answer"]
    for label in ("default", "weighted with q"):
        recall, reciprocal = (mine - other for mine, other in zip(tables[label], theirs, strict=True))
        told = f"recall@10 {recall.mean():+.3f} {interval(recall)}   MRR {reciprocal.mean():+.3f} {interval(reciprocal)}"
        print(f"{label + ' − BM25':<26} {told}")


def train_tokenizer(folder: Path, vocabulary: int) -> None:
    """Byte-level BPE on the training sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=["<pad>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator([json.loads(line)["text"] for line in (folder / "train.jsonl").open()], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def rows_of(store: Path, split: str) -> list[dict[str, str]]:
    """The rows of a split as they lie in its file."""
    return [json.loads(line) for line in (store / "data" / f"{split}.jsonl").open()]


def known(name: str) -> float:
    """The share of questions whose every answer token is the most likely one; mean over the checkpoints."""
    shares = []
    for parts, model in trained(name):
        dataset = parts.splits[SPLIT]
        batch = to_device(parts.collate([dataset[i] for i in range(len(dataset))]), CPU)
        with torch.no_grad():
            logits, right = parts.task.predicted(model, batch)  # type: ignore[attr-defined]
        shares.append(float(((logits.argmax(-1) == right) | (right < 0)).all(1).float().mean()))
    return float(np.mean(shares))


def bm25(train: list[dict[str, str]], queries: list[str]) -> Array:
    """(queries, n) BM25 of the words, in lower case."""
    from rank_bm25 import BM25Okapi

    index = BM25Okapi([row["text"].lower().split() for row in train])
    return np.stack([index.get_scores(query.lower().split()) for query in queries])


def found(scores: Array, stated: Array) -> tuple[Array, Array]:
    """Of each question: the share of its stating sentences among the first ten, and 1 / the place of the first of them.

    Equal scores share their places: the order among them is drawn at random, as BM25 gives many equal ones.
    """
    ties = np.random.default_rng(0).random(scores.shape[1])
    order = np.stack([np.lexsort((ties, -row)) for row in scores])
    hits = np.take_along_axis(stated, order, axis=1)
    return hits[:, :10].sum(1) / stated.sum(1), 1 / (1 + hits.argmax(1))


def interval(values: Array) -> str:
    """95 % bootstrap interval of a mean over questions."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"({low:.3f} to {high:.3f})"


def counterfactual(config: TrakConfig, scores: Mapping[str, Array], questions: int) -> None:
    """Print by how much f of a question falls when its top 5 % of the training set are left out, and a random 5 %."""
    training = _training(config.name)
    count = round(SHARE * training.rows)
    chosen = np.random.default_rng(1).choice(len(next(iter(scores.values()))), questions, replace=False)
    rng = np.random.default_rng(2)
    _, model = next(trained(config.name))  # the checkpoint of the same seed
    with_all = training.outputs(model, SPLIT).astype(np.float64)
    # A random choice has nothing to do with the question: the same few models serve all of them.
    left_out = {("random", i): rng.choice(training.rows, count, replace=False) for i in range(RANDOM)}
    left_out |= {(name, i): np.argsort(-one[i])[:count] for name, one in scores.items() for i in chosen}
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        found = dict(zip(left_out, pool.map(_outputs, repeat(config.name), left_out.values()), strict=True))
    falls = {name: np.array([(with_all - found[name, i])[i] for i in chosen]) for name in scores}
    falls["random"] = np.mean([with_all - found["random", i] for i in range(RANDOM)], axis=0)[chosen]
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
    """f of every question, of a model trained without some rows."""
    training = _training(name)
    kept = np.setdiff1d(np.arange(training.rows), left_out).tolist()
    return training.outputs(training.model(kept, seed=0), SPLIT).astype(np.float64)


def scores_of(config: TrakConfig, estimator: str) -> Array:
    """(questions, n) from the store."""
    return read_scores(Layout(Path(config.store)).scores(estimator, SPLIT)).astype(np.float64)
