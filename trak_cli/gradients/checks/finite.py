"""NaN and infinity in what an engine gives: finding them, and naming the sample."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from trak_cli.errors import InputError, Problem


def first_not_finite(values: Tensor) -> int | None:
    """The first row of ``values``, (B,) or (B, d), that holds a NaN or an infinity; None if all are finite."""
    if values.numel() == 0:
        return None
    rows = values.reshape(len(values), -1)
    # A NaN or an infinity shows in the minimum or the maximum of its row; isfinite would need B × d booleans.
    finite = rows.amin(dim=1).isfinite() & rows.amax(dim=1).isfinite()
    bad = (~finite).nonzero()
    return int(bad[0, 0]) if len(bad) else None


def check_finite(values: Tensor, names: Sequence[str], what: str) -> None:
    """Refuse rows that are not finite.

    Args:
        values: (B,) or (B, d).
        names: what to call each row, for example "train sample 17".
        what: what the values are, for example "gradient of c1.weight".

    Raises:
        InputError: names the first sample that has a NaN or an infinity.
    """
    position = first_not_finite(values)
    if position is not None:
        row = values[position].reshape(-1)
        kind = "NaN" if bool(row.isnan().any()) else "an infinity"
        remedy = "look at this sample and at the checkpoint; float16 models overflow where bfloat16 or float32 do not"
        raise InputError(Problem(names[position], f"{kind} in the {what}", "finite numbers", remedy))
