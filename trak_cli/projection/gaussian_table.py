"""The 256 values that represent the normal distribution, as constants, so that every machine has the same ones.

Entry j is the quantile at (j + ½)/256, scaled to variance 1 and rounded to a value that both bfloat16 and float16 represent
exactly (8 significant bits, multiples of 2⁻¹²). A few entries are changed by one more last place, so that the mean of the
squares is exactly 1; every entry is within 0.7 % of its scaled quantile. The table is ascending and odd-symmetric,
table[255 − j] = −table[j], so its mean is exactly 0. Its kurtosis is slightly below the normal's 3 because the tails end at
±2.875; no property of the projection depends on it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from trak_cli.types import Float64

#: Entries 128 to 255, in units of 2⁻¹².
_UPPER_HALF = (
    *(20, 60, 101, 141, 181, 221, 260, 300, 342, 382, 422, 464, 504, 544, 584, 624),
    *(668, 708, 748, 788, 828, 872, 912, 956, 996, 1040, 1080, 1120, 1160, 1200, 1248, 1288),
    *(1328, 1376, 1416, 1456, 1504, 1544, 1584, 1632, 1672, 1720, 1760, 1800, 1848, 1896, 1944, 1984),
    *(2032, 2080, 2128, 2160, 2208, 2256, 2304, 2352, 2400, 2448, 2496, 2544, 2592, 2640, 2688, 2752),
    *(2800, 2848, 2896, 2944, 3008, 3056, 3104, 3168, 3216, 3264, 3328, 3376, 3440, 3504, 3552, 3616),
    *(3680, 3728, 3792, 3856, 3920, 3984, 4048, 4128, 4192, 4256, 4320, 4384, 4448, 4544, 4608, 4672),
    *(4768, 4832, 4928, 4992, 5088, 5184, 5280, 5376, 5472, 5568, 5664, 5760, 5888, 5984, 6112, 6240),
    *(6368, 6496, 6656, 6816, 6976, 7136, 7328, 7552, 7776, 8000, 8320, 8640, 9088, 9600, 10368, 11776),
)


def _table() -> Float64:
    upper = np.array(_UPPER_HALF, dtype=np.float64) / 4096
    table = np.concatenate([-upper[::-1], upper])
    table.setflags(write=False)
    return table


#: (256,) float64, read-only.
GAUSSIAN_TABLE: Final[Float64] = _table()
