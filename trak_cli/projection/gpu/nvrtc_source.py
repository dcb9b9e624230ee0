"""The CUDA sources as text for a run-time compiler, and the kernels in each of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

#: A warp multiplies samples in tiles of 8; there is a kernel for each of these numbers of tiles.
TILES = (1, 2, 4, 8)

#: There is a sparse kernel for each of these numbers of blocks that are added together.
AT_ONCE = (2, 4)

DTYPES = ("float32", "float16", "bfloat16")

#: Source file -> its entry points.
ENTRY_POINTS: Mapping[str, tuple[str, ...]] = {
    "dense.cu": (
        "peak_float32",
        "peak_bfloat16",
        *(f"pack_{kind}_{dtype}" for kind in ("rademacher", "gaussian") for dtype in DTYPES),
        *(f"project_{kind}_{tiles}" for kind in ("rademacher", "gaussian") for tiles in TILES),
        "reduce",
    ),
    "sjlt.cu": (*(f"sjlt_{dtype}_{blocks}" for dtype in DTYPES for blocks in AT_ONCE), "reduce"),
}

_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


def source(name: str, seen: set[str] | None = None) -> str:
    """The text of one source file with its includes inlined, except those in ``seen``.

    The compiler then needs no include path, and a cache keyed by the text is invalidated by a change in any file.
    """
    seen = set() if seen is None else seen
    if name in seen:
        return ""
    seen.add(name)
    text = (files("trak_cli.projection.kernels") / name).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda match: source(match[1], seen), text.replace("#pragma once\n", ""))
