"""Whether the most helpful training samples of a target are of its class."""

from __future__ import annotations

from trak_cli.types import Float64, IntArray


def same_class_shares(top_rows: IntArray, classes: IntArray, of_targets: IntArray) -> Float64:
    """For every target, the share of its highest scores that belong to training samples of its class.

    (1/s) Σ_{r ≤ s} [class(training sample at rank r) = class(target)]: ``ClassDetectionMetric`` of quanda (Hanawa et al. 2021
    with s = 1; Kwon et al. 2024); with subclasses that the model was not trained to tell apart, its
    ``SubclassDetectionMetric``.

    Args:
        top_rows: (t, s) training rows of the s highest scores.
        classes: (n,) class of every training sample.
        of_targets: (t,) class of every target.
    """
    shares: Float64 = (classes[top_rows] == of_targets[:, None]).mean(axis=1)
    return shares
