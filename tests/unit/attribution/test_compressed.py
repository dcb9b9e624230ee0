"""Compressed features: their products are close to the exact ones, whatever the rows look like and the metric is."""

from __future__ import annotations

import numpy as np
import pytest

from trak_cli.attribution.compressed import CompressedRows, CompressedTargets, compress, levels_of, make_basis, unit_gram
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.linalg.spectrum import Spectrum
from trak_cli.attribution.scores import Products, products, target_factor
from trak_cli.types import Float32

ROWS, K = 3000, 101  # no multiple of the codes in a byte

SHRUNK = EstimatorSpec("s", shrinkage=0.1)
UNIT = EstimatorSpec("u", metric="identity", unit_norm=True)


def drawn(kind: str, rows: int) -> Float32:
    generator = np.random.default_rng(len(kind))
    normal = generator.standard_normal((rows, K))
    if kind == "decreasing":
        normal *= np.logspace(0, -3, K)
    if kind == "clustered":
        normal = 0.2 * normal + generator.standard_normal((20, K))[generator.integers(20, size=rows)]
    if kind == "sparse":
        normal *= generator.random((rows, K)) < 0.05
    sizes = 10.0 ** generator.normal(-4, 1, (rows, 1))
    return (normal * sizes).astype(np.float32)


def compressed(features: Float32, spec: EstimatorSpec, ridge: float, clip: float = np.inf) -> tuple[Products, Products]:
    """The products of ten targets with all rows, exact and from compressed rows."""
    gram = features.astype(np.float64).T @ features
    values, vectors = np.linalg.eigh(gram)
    spectrum = Spectrum(values, vectors, len(features), float(gram.trace() / K), float(gram.trace() / len(features)))
    factor = target_factor(spec, features[::300], spectrum, ridge * gram.trace() / len(features), clip)
    basis = make_basis(unit_gram(features).astype(np.float64), len(features))
    approximate = CompressedTargets.of(factor, basis).products(spec, compress(basis, features))
    return products(spec, factor, features), approximate


@pytest.mark.parametrize("spec", [SHRUNK, UNIT], ids=["gram", "identity"])
@pytest.mark.parametrize("kind", ["normal", "decreasing", "clustered", "sparse"])
def test_the_error_is_a_third_of_the_spread_over_all_rows(kind: str, spec: EstimatorSpec) -> None:
    features = drawn(kind, ROWS)
    exact, approximate = compressed(features, spec, ridge=1.0)
    lengths = 1 if spec.unit_norm else np.linalg.norm(features, axis=1) + 1e-30
    for found, expected in zip(approximate.kernel / lengths, exact.kernel / lengths, strict=True):
        assert np.sqrt(np.mean((found - expected) ** 2)) < 0.45 * expected.std()
        assert np.corrcoef(found, expected)[0, 1] > 0.9


def test_cosines_and_factors_of_clipping_are_those_of_the_rows() -> None:
    features = drawn("clustered", ROWS)
    exact, approximate = compressed(features, SHRUNK, ridge=1.0, clip=float(np.median(np.linalg.norm(features, axis=1))))
    np.testing.assert_allclose(approximate.clip, exact.clip, rtol=1e-5)
    assert exact.cosine is not None
    assert approximate.cosine is not None
    assert np.abs(approximate.cosine - exact.cosine).max() < 0.45
    assert np.corrcoef(approximate.cosine.ravel(), exact.cosine.ravel())[0, 1] > 0.9


def test_rows_of_zeros_and_of_extreme_length_have_finite_products() -> None:
    features = drawn("normal", 40)
    features[0], features[1], features[2] = 0, 1e-42, 3e38
    basis = make_basis(unit_gram(features).astype(np.float64), 40)
    rows = compress(basis, features)
    assert np.isfinite(rows.scales).all()
    assert np.isfinite(rows.lengths).all()
    factor = target_factor(UNIT, features[3:5], None, 0.0)
    found = CompressedTargets.of(factor, basis).products(UNIT, rows)
    assert np.isfinite(found.kernel).all()
    assert (found.kernel[:, 0] == 0).all()


def test_a_code_is_a_quarter_of_a_byte_and_any_bytes_are_levels() -> None:
    features = drawn("normal", 7)
    rows = compress(make_basis(unit_gram(features).astype(np.float64), 7), features)
    assert rows.codes.shape == (7, 26)
    levels = levels_of(np.arange(256, dtype=np.uint8)[None])
    assert np.unique(levels).tolist() == pytest.approx([-1.494, -0.498, 0.498, 1.494], abs=1e-3)
    some = rows.at(np.array([4, 2]))
    assert isinstance(some, CompressedRows)
    assert np.array_equal(some.codes, rows.codes[[4, 2]])
