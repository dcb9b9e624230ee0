"""Docstrings of the standard library and the package that each comes from, as JSONL, with a tokenizer trained on them."""

from __future__ import annotations

import ast
import json
import sysconfig
from pathlib import Path

import numpy as np

#: Packages of the standard library, distinguished by their docstrings.
PACKAGES = ("tkinter", "idlelib", "asyncio", "importlib", "email", "logging", "xml", "unittest")
TRAIN, TEST = 800, 150


def write(folder: Path, vocabulary: int) -> None:
    """train.jsonl, test.jsonl and tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = [{"text": text, "label": number} for number, package in enumerate(PACKAGES) for text in _docstrings(package)]
    rows = [rows[i] for i in rng.permutation(len(rows))[: TRAIN + TEST]]
    for file, some in (("train.jsonl", rows[:TRAIN]), ("test.jsonl", rows[TRAIN:])):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in some))
    _train_tokenizer([str(row["text"]) for row in rows[:TRAIN]], vocabulary, folder / "tokenizer.json")


def _docstrings(package: str) -> list[str]:
    """At most 400 different docstrings of four words or more."""
    root = Path(sysconfig.get_paths()["stdlib"])
    texts = set()
    for path in sorted((root / package).rglob("*.py")):
        if "test" in path.relative_to(root).as_posix():
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                words = (ast.get_docstring(node) or "").split()
                if len(words) >= 4:
                    texts.add(" ".join(words))
    return sorted(texts)[:400]


def _train_tokenizer(texts: list[str], vocabulary: int, path: Path) -> None:
    """WordPiece, as BERT's: [CLS] text [SEP]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", special.index("[SEP]")), ("[CLS]", special.index("[CLS]")))
    tokenizer.save(str(path))
