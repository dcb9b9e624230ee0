"""The CUDA sources: their text for a run-time compiler, and the kernels that each of them holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

#: Samples of a warp's product are taken in tiles of 8; a kernel takes this many tiles.
TILES = (1, 2, 4, 8)

#: Blocks that a sparse kernel adds together.
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


def source(name: str) -> str:
    """The text of one source file with everything it includes written into it.

    A compiler then needs no include path, and a cache keyed by the text notices a change in any part.
    """
    return _inlined(name, set())


def _inlined(name: str, seen: set[str]) -> str:
    if name in seen:
        return ""
    seen.add(name)
    text = (files("trak_cli.projection.kernels") / name).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda match: _inlined(match[1], seen), text.replace("#pragma once\n", ""))
