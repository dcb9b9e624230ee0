"""How well one number for each training sample finds the flagged ones (mislabelled, for example)."""

from __future__ import annotations

import numpy as np

from trak_cli.attribution.lds.ranks import rank_rows
from trak_cli.types import BoolArray, FloatArray


def detection_auc(suspicion: FloatArray, flagged: BoolArray) -> float:
    """The area under the ROC curve: the share of pairs of a flagged and another sample in which the flagged is more suspicious.

    AUC = (Σ_{i flagged} rank(i) − m (m + 1) / 2) / (m (n − m)), with ranks from 1 for the least suspicious and the mean rank
    for ties (Mann and Whitney 1947). It is the ``mislabel_detection_auc`` of dattri, which breaks ties by position instead.

    Args:
        suspicion: (n,), higher where a sample is more suspicious.
        flagged: (n,); at least one sample is flagged, and one is not.
    """
    count, total = int(flagged.sum()), len(flagged)
    ranks = rank_rows(suspicion[None]).balance(np.ones(total))[0] + (total + 1) / 2
    return float((ranks[flagged].sum() - count * (count + 1) / 2) / (count * (total - count)))


def inspection_area(suspicion: FloatArray, flagged: BoolArray) -> float:
    """The area under the share of flagged samples that are found, over the share of samples inspected, most suspicious first.

    With c(r) the number of flagged samples among the r most suspicious, Σ_{r=1}^{n−1} (c(r) + c(r+1)) / (2 m n): the score of
    ``MislabelingDetectionMetric`` of quanda, after Kwon et al. 2024. Of samples that are equally suspicious, the one with the
    lower row comes first. Its maximum is 1 − m / (2 n) − 1 / (2 m n), below 1, unlike that of :func:`detection_auc`.
    """
    order = np.argsort(-suspicion, kind="stable")
    found = np.cumsum(flagged[order]) / flagged.sum()
    return float((found[1:] + found[:-1]).sum() / (2 * len(flagged)))
