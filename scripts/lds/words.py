"""Texts as the ids of their words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np


def word_ids(texts: Sequence[str], length: int, vocabulary: int) -> np.ndarray[Any, Any]:
    """Return the ids of the first ``length`` words, (texts, length); 0 is padding, 1 any word outside the vocabulary."""
    words = [text.lower().split()[:length] for text in texts]
    counts = Counter(word for text in words for word in text)
    ids = {word: i + 2 for i, (word, _) in enumerate(counts.most_common(vocabulary - 2))}
    x = np.zeros((len(texts), length), np.int64)
    for row, text in zip(x, words, strict=True):
        row[: len(text)] = [ids.get(word, 1) for word in text]
    return x
