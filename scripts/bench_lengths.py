"""Compare featurizing texts in row order with featurizing texts of similar length together, interleaved in one run.

    python scripts/bench_lengths.py

Lengths are log-normal (median 32, sigma 0.7), cut to 8 .. 128 tokens; the models have 4 layers of width 256 and 8,000 words,
k = 2048. All rows are one shard. "positions" is the number of positions computed for each token of the texts: 1 means no
padding.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from bench_featurize import PROJECTIONS, Work, fastest, featurizer
from bench_projection import machine, table
from torch import Tensor, nn

from trak_cli.batches import IGNORED
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import select
from trak_cli.plugins.text import text_model
from trak_cli.stages.inputs.microbatches import microbatches
from trak_cli.stages.inputs.split import Split
from trak_cli.tasks import CausalLM, Task, TextClassification
from trak_cli.types import Rows

WORDS, SHORTEST, LONGEST = 8_000, 8, 128
SIZES: dict[str, dict[str, Any]] = {
    "text_classification": {
        "model_type": "bert",
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    },
    "causal_lm": {
        "model_type": "gpt2",
        "n_embd": 256,
        "n_layer": 4,
        "n_head": 4,
        "n_positions": LONGEST,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
}


@dataclass(frozen=True)
class InRowOrder(Split):
    """A split that is never ordered by length."""

    @property
    def varies(self) -> bool:
        return False


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    print(machine().strip() + f", {arguments.threads} threads\n")
    rows = []
    for kind in SIZES:
        rows += [measure(kind, arguments.engine, size, arguments) for size in arguments.microbatches]
    header = ["", "microbatch", "positions, row order", "by length", "ms a text, row order", "by length", "ratio", "difference"]
    table(header, rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--engine", default="hooks", choices=list(ENGINES))
    parser.add_argument("--microbatches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--cpu", action="store_true", help="measure CPU time, which other programs disturb less")
    return parser.parse_args()


def measure(kind: str, engine: str, microbatch: int, arguments: argparse.Namespace) -> list[str]:
    """Return one row of the table."""
    torch.manual_seed(0)
    model = text_model(kind, config={"vocab_size": WORDS, **SIZES[kind]}).eval()
    task: Task = CausalLM() if kind == "causal_lm" else TextClassification()
    texts = random_texts(kind, arguments.rows)
    splits = {
        "row order": InRowOrder("test", texts, len(texts), pad, torch.device("cpu")),
        "by length": Split("test", texts, len(texts), pad, torch.device("cpu")),
    }
    parameters = select(model, ["*"])
    strategies = find_strategies(model, task, parameters, pad(texts[:3]))
    ready = featurizer(engine, model, parameters, PROJECTIONS["sjlt s=4"], microbatch, task=task, strategies=strategies)
    features: dict[str, Any] = {}

    def work(name: str) -> Work:
        def run() -> None:
            features[name] = ready.rows(splits[name], Rows(0, len(texts)), lambda _: None).features

        return run

    clock = time.process_time if arguments.cpu else time.perf_counter
    seconds = fastest({name: work(name) for name in splits}, arguments.repeat, "cpu", clock)
    before, after = (seconds[name] for name in splits)
    difference = np.abs(features["by length"] - features["row order"]).max() / np.abs(features["row order"]).max()
    tokens = sum(len(text["input_ids"]) for text in texts)
    return [
        SIZES[kind]["model_type"],
        str(microbatch),
        *(f"{positions(split, microbatch) / tokens:.2f}" for split in splits.values()),
        *(f"{1000 * taken / len(texts):.1f}" for taken in (before, after)),
        f"{before / after:.2f}",
        f"{difference:.0e}",
    ]


def positions(split: Split, microbatch: int) -> int:
    """Count the token positions that the model computes in one pass over the split."""
    batches = (split.batch(part.samples) for part in microbatches(split, Rows(0, split.rows), microbatch))
    return sum(batch["input_ids"].numel() for batch in batches)


def random_texts(kind: str, count: int) -> list[dict[str, Tensor]]:
    """Return texts of random tokens, with log-normal lengths."""
    random = np.random.default_rng(0)
    lengths = np.exp(random.normal(np.log(32), 0.7, count)).round().astype(int).clip(SHORTEST, LONGEST)
    texts = []
    for row, length in enumerate(lengths.tolist()):
        ids = torch.randint(WORDS, (length,))
        labels = ids if kind == "causal_lm" else torch.tensor(row % 2)
        texts.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return texts


def pad(samples: list[Any]) -> dict[str, Tensor]:
    """Collate like the text datasets of the package, without a tokenizer."""
    fill_values = {"input_ids": 0, "attention_mask": 0, "labels": IGNORED}
    return {key: _stack([sample[key] for sample in samples], fill_values[key]) for key in samples[0]}


def _stack(values: list[Tensor], fill_value: int) -> Tensor:
    if values[0].dim() == 0:
        return torch.stack(values)
    return nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=fill_value)


if __name__ == "__main__":
    main()
