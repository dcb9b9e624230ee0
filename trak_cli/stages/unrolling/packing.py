"""Many small arrays as one dataset of a file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]


def packed(arrays: Arrays) -> Arrays:
    """All arrays one after another as bytes, and their names, dtypes and shapes as JSON: a file holds few datasets."""
    stored = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    layout = [[name, array.dtype.str, list(array.shape)] for name, array in stored.items()]
    values = [array.reshape(-1).view(np.uint8) for array in stored.values()]
    return {"layout": np.frombuffer(json.dumps(layout).encode(), np.uint8), "values": np.concatenate(values)}


def unpacked(layout: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> Arrays:
    """The inverse of :func:`packed`."""
    arrays, start = {}, 0
    for name, dtype, shape in json.loads(layout.tobytes()):
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        arrays[name] = np.frombuffer(values[start : start + size].tobytes(), dtype).reshape(shape)
        start += size
    return arrays
