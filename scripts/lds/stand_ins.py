"""Write the data of the settings that no choice of the default was made on.

python scripts/lds/stand_ins.py runs/lds/data
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from data import _sources, _table, write

Array = np.ndarray[Any, Any]

#: Packages, told apart by their docstrings, and by the names of their functions.
PACKAGES = ("scipy/stats", "scipy/sparse", "sklearn/linear_model", "torch/nn", "statsmodels/tsa", "sklearn/metrics")
WORDS, TOKENS, LETTERS = 1500, 20, 24


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/lds/data")
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in SETS.items():
        if not (folder / f"{name}_test.npz").exists():
            write(folder, name, *make(np.random.default_rng(1)))


def bn_digits(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Handwritten digits: 500 and 100."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = rng.permutation(len(digits.images))[:600]
    return (digits.images[order] / 16).astype(np.float32)[:, None], digits.target[order].astype(np.int64), 500


def countries(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Births per woman of a country in 1960 to 1989; the third of the countries it is in in 2010. 150 and about 50."""
    from statsmodels.datasets import fertility

    table = fertility.load_pandas().data
    x, last = table[[str(year) for year in range(1960, 1990)]].to_numpy(np.float64), table["2010"].to_numpy(np.float64)
    known = np.isfinite(x).all(1) & np.isfinite(last)
    label = np.searchsorted(np.quantile(last[known], (1 / 3, 2 / 3)), last[known])
    return _table(SimpleNamespace(data=x[known], target=label), rng, 150, np.int64)


def loops(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Functions of the standard library: counts of 30 kinds of syntax nodes; which of three kinds of value it returns."""
    rows, labels = [], []
    for _, text in _sources(("asyncio", "email", "importlib", "logging", "xml", "unittest", "http", "json")):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                nodes = list(ast.walk(node))
                returned = [one.value for one in nodes if isinstance(one, ast.Return) and one.value is not None]
                if len(nodes) > 20 and returned:
                    rows.append(Counter(type(one).__name__ for one in nodes))
                    labels.append(0 if isinstance(returned[-1], ast.Name) else 1 if isinstance(returned[-1], ast.Call) else 2)
    label = np.array(labels)
    order = np.concatenate([rng.permutation(np.flatnonzero(label == value))[:150] for value in range(3)])
    common = [kind for kind, _ in Counter(kind for row in rows for kind in row).most_common(34)][4:]
    counts = np.array([[rows[i][kind] for kind in common] for i in order], np.float64)
    return _table(SimpleNamespace(data=np.log1p(counts), target=label[order]), rng, 350, np.int64)


def text(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """The first words of a docstring as word ids; the package. 500 and 100."""
    by_package = [sorted({doc for _, doc in _functions(package) if len(doc.split()) >= 8}) for package in PACKAGES]
    texts = [(doc, label) for label, docs in enumerate(by_package) for doc in rng.permutation(np.array(docs, object))[:100]]
    texts = [texts[i] for i in rng.permutation(len(texts))]
    words = [doc.lower().split()[:TOKENS] for doc, _ in texts]
    vocabulary = {word: i + 2 for i, (word, _) in enumerate(Counter(w for one in words for w in one).most_common(WORDS - 2))}
    x = np.zeros((len(texts), TOKENS), np.int64)
    for row, one in zip(x, words, strict=True):
        row[: len(one)] = [vocabulary.get(word, 1) for word in one]
    return x, np.array([label for _, label in texts]), len(texts) - 100


def function_names(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """The letters of a function's name; the package. 500 and 100."""
    by_package = [sorted({name for name, _ in _functions(package) if len(name) >= 6}) for package in PACKAGES[:4]]
    names = [(name, label) for label, some in enumerate(by_package) for name in rng.permutation(some)[:150]]
    names = [names[i] for i in rng.permutation(len(names))]
    x = np.zeros((len(names), LETTERS), np.int64)
    for row, (name, _) in zip(x, names, strict=True):
        letters = [ord(letter) % 64 + 1 for letter in name[:LETTERS]]
        row[: len(letters)] = letters
    return x, np.array([label for _, label in names]), len(names) - 100


def _functions(package: str) -> Iterator[tuple[str, str]]:
    """(name, docstring) of every function and class of an installed package."""
    top, _, rest = package.partition("/")
    spec = importlib.util.find_spec(top)
    assert spec is not None
    assert spec.origin is not None
    for path in sorted((Path(spec.origin).parent / rest).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name, " ".join((ast.get_docstring(node) or "").split())


SETS = {
    "bn_digits": bn_digits,
    "countries": countries,
    "loops": loops,
    "text": text,
    "function_names": function_names,
}

if __name__ == "__main__":
    main()
