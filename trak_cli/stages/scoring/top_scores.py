"""Top-k scores as the datasets of a file."""

from __future__ import annotations

import numpy as np

from trak_cli.attribution.topk import Extremes, TopBottom


def arrays_of(both: TopBottom) -> dict[str, np.ndarray]:
    """The datasets of a file: row numbers and scores of both ends, (targets, k) each."""
    return {
        "top_rows": both.top.indices,
        "top_scores": both.top.values,
        "bottom_rows": both.bottom.indices,
        "bottom_scores": both.bottom.values,
    }


def top_bottom_of(arrays: dict[str, np.ndarray]) -> TopBottom:
    """The highest and lowest scores of each target in a file, from its datasets."""
    return TopBottom(
        Extremes(arrays["top_rows"], arrays["top_scores"]), Extremes(arrays["bottom_rows"], arrays["bottom_scores"])
    )
