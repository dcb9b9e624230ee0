"""Every version reads the golden store, which ``make_golden_store.py`` wrote in format 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.stages.compressing.compressed_store import open_compressed
from trak_cli.stages.compressing.recall import find_recall
from trak_cli.stages.index.inventory import require_shards, take_inventory
from trak_cli.stages.scoring.score_reader import read_extremes
from trak_cli.store.container import read_image
from trak_cli.store.dtypes import encode_rows
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

FOLDER = Path(__file__).with_name("golden_store")


def read_store(layout: Layout) -> dict[str, np.ndarray]:
    """Features, Gram matrices, compressed features and scores of a store, by name."""
    values: dict[str, np.ndarray] = {}
    inventory = take_inventory(layout, ["*"])
    require_shards(inventory, ["train", "test"])
    for checkpoint in inventory.checkpoints:
        for split in ("train", "test"):
            shards = list(inventory.read_all(checkpoint, split))
            for column in ("features", "out_to_loss", "outputs", "sample_ids"):
                values[f"{checkpoint}/{split}/{column}"] = np.concatenate([getattr(shard, column) for shard in shards])
    for key in layout.grams():
        for checkpoint in layout.finalized_checkpoints(key):
            arrays = read_image(layout.finalized(key, checkpoint)).arrays
            values[f"gram/{key}/{checkpoint}"] = (arrays["eigenvectors"] * arrays["eigenvalues"]) @ arrays["eigenvectors"].T
    if layout.compressed_checkpoints():
        store = open_compressed(inventory)
        for checkpoint in inventory.checkpoints:
            parts = [store.read(checkpoint, number) for number in range(len(store.parts))]
            values[f"compressed/{checkpoint}/codes"] = np.concatenate([part.compressed.codes for part in parts])
            values[f"compressed/{checkpoint}/row_digests"] = np.concatenate([part.row_digests for part in parts])
        recall = find_recall(store, EstimatorSpec("trak"))
        assert recall is not None
        values["compressed/ranks"] = recall.ranks
    if layout.scores("trak", "test").exists():
        values["scores/trak"] = read_scores(layout.scores("trak", "test"))
        both = read_extremes(layout, "dot", "test", [0, 1, 2], 2)
        for end in ("top", "bottom"):
            values[f"scores/dot/{end}_rows"] = np.concatenate([getattr(one, end).indices for one in both])
            values[f"scores/dot/{end}_scores"] = np.concatenate([getattr(one, end).values for one in both])
    return values


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(FOLDER.with_suffix(".npz")) as file:
        return dict(file)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_golden_store_is_read(dtype: str, expected: dict[str, np.ndarray]) -> None:
    found = read_store(Layout(FOLDER / dtype))
    assert {f"{dtype}/{key}" for key in found} == {key for key in expected if key.startswith(f"{dtype}/")}
    for key, values in found.items():
        stored = expected[f"{dtype}/{key}"]
        assert values.dtype == stored.dtype
        np.testing.assert_allclose(values, stored, rtol=1e-12 if key.startswith("gram") else 0, atol=0)


def test_the_golden_values_are_consistent(expected: dict[str, np.ndarray]) -> None:
    """Scores and Gram matrices follow from the features, and rounded features from those in float32."""
    for key in [key for key in expected if key.startswith("float32/a/") and key.endswith("/features")]:
        for dtype in ("float16", "int8"):
            encoded = encode_rows(expected[key], dtype)
            assert encoded.scales is not None
            rounded = encoded.values.astype(np.float32) * encoded.scales[:, None]
            np.testing.assert_array_equal(expected[key.replace("float32", dtype)], rounded)
    products = [expected[f"float32/{name}/test/features"] @ expected[f"float32/{name}/train/features"].T for name in "ab"]
    dot = np.mean(products, axis=0)
    rows = np.argsort(-dot, axis=1, kind="stable")[:, :2]
    np.testing.assert_array_equal(expected["float32/scores/dot/top_rows"], rows)
    grams = [key for key in expected if key.startswith("float32/gram/")]
    assert len(grams) == 2
