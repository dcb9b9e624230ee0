"""The smallest number of removed samples that flips a prediction, by bisection."""

from __future__ import annotations

import math
from collections.abc import Callable

#: The result is at most this many times the largest number that was found not to flip.
PRECISION = 1.1


def smallest_flip(most: int, flips: Callable[[int], bool]) -> int | None:
    """A number at most ``most`` that flips, while one that is smaller by 1, or by a tenth, does not; None if ``most`` does not.

    If every number above a flipping one flips too, it is the smallest one, up to a tenth. Of 1 to ``most``, it asks for about
    2 + log₂ log ``most`` / log 1.1 of them: 6 for 100, 8 for 10,000.

    Args:
        most: at least 1.
        flips: whether a prediction is flipped without so many samples, which takes a training.
    """
    if not flips(most):
        return None
    low, high = 0, most
    while high - low > 1 and high > PRECISION * low:
        middle = min(max(round(math.sqrt(max(low, 1) * high)), low + 1), high - 1)
        if flips(middle):
            high = middle
        else:
            low = middle
    return high
