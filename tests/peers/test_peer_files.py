"""Files of bergson, dattri, quanda and traker, written and read by these packages: extra ``peers``, skipped without it."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from exchange_store import Store, random_scores, store_with

from trak_cli.attribution.lds.lds import lds

TARGETS, ROWS = 5, 17
SCORES = random_scores(TARGETS, ROWS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_with(tmp_path / "store", SCORES)


def imported(tmp_path: Path, file: Path, **options: object) -> np.ndarray:
    copy = Store(tmp_path / "copy")
    copy.imported(file, split="test", **options)
    return copy.scores()


@pytest.mark.peers("bergson.data")
def test_bergson_reads_what_is_exported_with_proponents_on_the_right_side(store: Store, tmp_path: Path) -> None:
    data = import_module("bergson.data")
    store.exported(tmp_path / "out", format="bergson")
    scores = data.load_scores(tmp_path / "out")
    assert scores.is_written()
    np.testing.assert_array_equal(np.asarray(scores[:]), SCORES.T)
    loss_signed, several = data.load_scores_loss_signed(str(tmp_path / "out"))
    assert several
    np.testing.assert_array_equal(loss_signed.numpy(), -SCORES.T)


@pytest.mark.peers("bergson.score.score_writer")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_bergson_writes_is_imported(tmp_path: Path, dtype: torch.dtype) -> None:
    writer = import_module("bergson.score.score_writer")
    values = torch.randn(ROWS, TARGETS).to(dtype)
    writer.save_sequence_scores(tmp_path / "out", values.float().numpy(), dtype=dtype)
    np.testing.assert_array_equal(imported(tmp_path, tmp_path / "out"), values.float().numpy().T)


@pytest.mark.peers("bergson.score.score_writer")
def test_scores_of_tokens_that_bergson_writes_are_added_up(tmp_path: Path) -> None:
    writer = import_module("bergson.score.score_writer")
    offsets = np.array([0, 3, 3, 4, 9])
    tokens = np.random.default_rng(0).standard_normal((9, TARGETS)).astype(np.float32)
    writer.save_token_scores(tmp_path / "out", tokens, offsets)
    expected = [tokens[a:b].sum(axis=0) for a, b in pairwise(offsets)]
    np.testing.assert_allclose(imported(tmp_path, tmp_path / "out"), np.array(expected).T, rtol=1e-5, atol=1e-6)


@pytest.mark.peers("dattri.metric")
def test_the_lds_of_dattri_is_the_lds_of_its_files_here(tmp_path: Path) -> None:
    metric = import_module("dattri.metric")
    scores = np.random.default_rng(0).standard_normal((TARGETS, ROWS)).astype(np.float32)
    store = store_with(tmp_path / "store", scores)
    store.exported(tmp_path / "scores.pt")
    theirs = torch.load(tmp_path / "scores.pt", weights_only=True)
    truth = torch.randn(12, TARGETS), torch.stack([torch.randperm(ROWS)[:8] for _ in range(12)])
    torch.save(truth, tmp_path / "truth.pt")
    path = store.imported(tmp_path / "truth.pt", "truth", ground_truth=True).path
    expected, _ = metric.lds(theirs, truth)
    with np.load(path) as arrays:
        mine = lds(scores, arrays["masks"], arrays["outputs"]).per_target
    np.testing.assert_allclose(mine, expected.numpy(), atol=1e-6)


@pytest.mark.peers("quanda.utils.cache")
def test_the_cache_of_quanda_is_written_and_read(store: Store, tmp_path: Path) -> None:
    cache = import_module("quanda.utils.cache").ExplanationsCache
    store.exported(tmp_path / "cache", format="quanda")
    loaded = cache.load(str(tmp_path / "cache"))
    np.testing.assert_array_equal(torch.cat([loaded[number] for number in range(len(loaded))]).numpy(), SCORES)
    (tmp_path / "theirs").mkdir()
    for number, batch in enumerate(torch.tensor(SCORES).split(2)):
        cache.save(str(tmp_path / "theirs"), batch, number)
    np.testing.assert_array_equal(imported(tmp_path, tmp_path / "theirs"), SCORES)


@pytest.mark.peers("trak.savers")
@pytest.mark.parametrize("half", [False, True])
def test_a_save_directory_that_traker_wrote(tmp_path: Path, half: bool) -> None:
    savers = import_module("trak.savers")
    metadata = {"JL dimension": 4, "JL matrix type": "normal", "train set size": ROWS}
    saver = savers.MmapSaver(tmp_path / "_trak", metadata, ROWS, 4, True, 30, half)
    saver.register_model_id(0, False)
    saver.init_experiment("quick", TARGETS, 0)
    scores = np.random.default_rng(0).standard_normal((ROWS, TARGETS)).astype(np.float16 if half else np.float32)
    saver.current_store["quick_scores"][:] = scores
    saver.save_scores("quick")
    np.testing.assert_array_equal(imported(tmp_path, tmp_path / "_trak"), scores.T.astype(np.float32))
