"""Features stored in fewer bytes give the same LDS on the reference ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_quality import Found, features, kernel_and_weight

from trak_cli.attribution.lds.lds import lds
from trak_cli.attribution.scores import sample_weight
from trak_cli.config.estimators import shipped_estimators
from trak_cli.store.dtypes import decode_rows, encode_rows

#: Largest difference from the LDS with float32 features.
TOLERANCE = {"float16": 0.0002, "int8": 0.001}

#: A quarter of the default number of columns: rounding is the same, and the spectra take a tenth of the time.
DIM = 1024


def stored(found: Found, dtype: str) -> Found:
    train, targets = (decode_rows(encode_rows(rows, dtype), dtype) for rows in (found.train, found.targets))
    return found._replace(train=train, targets=targets)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "trained_on"),
    [("early_training", "full"), ("early_training", "half"), ("trak", "full"), ("balanced", "half")],
)
def test_narrow_features_keep_the_lds(reference: Path, estimator: str, trained_on: str) -> None:
    spec = shipped_estimators()[estimator]
    truth = np.load(reference / "groundtruth.npz")
    (found,) = features(reference, reference / f"{trained_on}_0.pt", 1, DIM)
    measured = {}
    for dtype in ("float32", *TOLERANCE):
        kernel, weight = kernel_and_weight(spec, stored(found, dtype))
        measured[dtype] = float(lds(kernel * sample_weight(spec, [weight]), truth["masks"], truth["outputs"]).mean)
    print(estimator, trained_on, {dtype: round(value, 5) for dtype, value in measured.items()})
    for dtype, tolerance in TOLERANCE.items():
        assert abs(measured[dtype] - measured["float32"]) < tolerance, measured
