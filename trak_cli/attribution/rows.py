"""Operations on single rows of a feature matrix."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Real = TypeVar("Real", bound=np.floating[Any])


def unit_rows(features: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Every row of (r, k) at unit length, lengths taken in float64; a row of zeros stays. Keeps the dtype."""
    lengths = np.sqrt(np.einsum("rk,rk->r", features, features, dtype=np.float64))
    return (features / np.where(lengths == 0, 1.0, lengths)[:, None]).astype(features.dtype)
