"""Candidates of drawn stores: all rows give the full pass, more candidates find more, and ranks are those of whole matrices."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from synthetic_store import ROWS, TARGETS, make_store

from trak_cli.attribution.compressed import Basis, make_basis
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.topk import TopBottom, TopK
from trak_cli.config.load import load
from trak_cli.stages.compress import compress
from trak_cli.stages.compressing import compressed_store
from trak_cli.stages.compressing.candidates import CompressedScorer, find_candidates
from trak_cli.stages.compressing.compressed_part import CompressedPart
from trak_cli.stages.compressing.compressed_store import CompressedStore, open_compressed
from trak_cli.stages.compressing.exact_rows import ExactRows
from trak_cli.stages.compressing.recall import Recall, find_recall
from trak_cli.stages.finalize import finalize
from trak_cli.stages.index.inventory import take_inventory
from trak_cli.stages.scoring.block_scorer import PreparedTargets, prepare_targets
from trak_cli.store.layout import Layout
from trak_cli.types import Float64, IntArray, Silent

KINDS = {
    "default": ([], {}),
    "terms": (["estimator=trak"], {"with_terms": True}),
    "residuals": (["estimator=trak", "estimator.averaging=scores"], {"residuals": True}),
    "unit rows": (["estimator=cosine"], {}),
    "thresholds": (["estimator=trak_soft"], {"checkpoints": 1}),
}


def compressed(root: Path, kind: str, *overrides: str) -> tuple[CompressedStore, PreparedTargets, EstimatorSpec]:
    """A drawn store with compressed features in three parts, and its targets."""
    chosen, options = KINDS[kind]
    drawn = make_store(root, **options)
    for name, stage in (("finalize", finalize), ("compress", compress)):
        loaded = load(name, None, None, [f"store={root}", *chosen, "worker.part_rows=32", *overrides])
        stage(loaded, Silent())
    estimator = loaded.config.estimator.spec
    inventory = take_inventory(Layout(root), ["*"])
    features = dict(zip(inventory.checkpoints, drawn.targets, strict=True))
    return open_compressed(inventory), prepare_targets(inventory, estimator, features.__getitem__), estimator


def extremes(exact: ExactRows, rows: IntArray, k: int) -> TopBottom:
    """The highest and lowest scores among some rows."""
    best = TopK(TARGETS, k)
    for some, scores in exact.final_scores(rows):
        best.update(scores, some)
    return best.result()


@pytest.mark.parametrize("kind", KINDS)
def test_all_rows_as_candidates_are_the_full_pass_and_fewer_are_a_part_of_it(tmp_path: Path, kind: str) -> None:
    store, targets, _ = compressed(tmp_path / "store", kind)
    scorer, exact = CompressedScorer.of(targets, store), ExactRows(targets, store, threads=2)
    full = TopK(TARGETS, 5)
    scores = np.concatenate([targets.final_scores(index) for index in range(len(store.inventory.shards("train")))], axis=1)
    full.update(scores, 0)
    everything = find_candidates(scorer, ROWS, 2, Silent())
    assert everything.tolist() == list(range(ROWS))
    best = extremes(exact, everything, 5)
    np.testing.assert_allclose(best.top.values, full.result().top.values, rtol=2e-5, atol=1e-6 * np.abs(scores).max())
    np.testing.assert_allclose(best.bottom.values, full.result().bottom.values, rtol=2e-5, atol=1e-6 * np.abs(scores).max())
    before: set[int] = set()
    for count in (1, 4, 9, 40):
        rows = find_candidates(scorer, count, 1, Silent())
        assert before <= set(rows.tolist())
        before = set(rows.tolist())
        found = extremes(exact, rows, 1).top
        expected = np.take_along_axis(scores, found.indices, 1)
        np.testing.assert_allclose(found.values, expected, rtol=2e-5, atol=1e-6 * np.abs(scores).max())


@pytest.mark.parametrize("kind", KINDS)
def test_little_memory_changes_neither_candidates_nor_their_scores(tmp_path: Path, kind: str) -> None:
    store, targets, _ = compressed(tmp_path / "store", kind)
    scorer = CompressedScorer.of(targets, store)
    rows = find_candidates(scorer, 6, 4, Silent())
    for memory, threads in ((1, 4), (scorer.part_bytes, 4), (2 * scorer.part_bytes, 3), (1, 1)):
        assert find_candidates(scorer, 6, threads, Silent(), memory).tolist() == rows.tolist()
    floats = 5 * len(store.inventory.checkpoints) * store.inventory.dim
    few, many = ExactRows(targets, store, 2, most_floats=floats), ExactRows(targets, store, 2)
    sizes = [len(some) for some, _ in few.final_scores(rows)]
    assert max(sizes) == 5
    assert len(list(many.final_scores(rows))) < len(sizes)
    one, other = (np.concatenate([scores for _, scores in exact.final_scores(rows)], axis=1) for exact in (few, many))
    np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6 * np.abs(other).max())


@pytest.mark.parametrize("fits", [False, True])
def test_threads_share_a_part_if_their_own_do_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    store, targets, _ = compressed(tmp_path / "store", "default")
    scorer, read, events = CompressedScorer.of(targets, store), CompressedStore.read, list[int]()
    meeting = Barrier(len(store.parts))

    def watched(self: CompressedStore, checkpoint: str, number: int) -> CompressedPart:
        if fits and checkpoint == store.inventory.checkpoints[0]:
            meeting.wait(10)  # raises an exception if not all parts are read at a time
        events.append(number)
        part = read(self, checkpoint, number)
        events.append(number)
        return part

    monkeypatch.setattr(CompressedStore, "read", watched)
    find_candidates(scorer, 6, 4, Silent(), memory=10 * scorer.part_bytes if fits else 1)
    assert len(events) == 2 * len(store.parts) * len(store.inventory.checkpoints)
    assert fits or events == sorted(events)


@pytest.mark.parametrize("own", [False, True], ids=["targets", "training rows"])
def test_ranks_are_those_of_whole_matrices(tmp_path: Path, own: bool) -> None:
    store, targets, estimator = compressed(tmp_path / "store", "default")
    if own:
        Layout(store.inventory.layout.root).split("test").unlink()
        compress(load("compress", None, None, [f"store={tmp_path / 'store'}", "worker.part_rows=32"]), Silent())
    recall = find_recall(store, estimator)
    assert recall is not None
    split = "train" if own else "test"
    rows = np.unique(np.linspace(0, ROWS - 1, 32).round().astype(int)) if own else np.arange(TARGETS)
    shards = {name: list(store.inventory.read_all(name, split)) for name in store.inventory.checkpoints}
    features = {name: np.concatenate([shard.features for shard in some])[rows] for name, some in shards.items()}
    targets = prepare_targets(store.inventory, estimator, features.__getitem__)
    scorer = CompressedScorer.of(targets, store)
    blocks = [block for part in range(len(store.parts)) for _, block in scorer.blocks(part)]
    approximate = np.concatenate(blocks, axis=1)
    exact = np.concatenate([targets.scores(index) for index in range(len(store.inventory.shards("train")))], axis=1)
    assert recall.ranks.shape == (len(rows), 2, ROWS - own)
    for target, row in enumerate(rows):
        others = np.delete(np.arange(ROWS), row) if own else np.arange(ROWS)
        for end, sign in enumerate((1, -1)):
            order = others[np.argsort(-sign * exact[target, others], kind="stable")]
            by_approximation = others[np.argsort(-sign * approximate[target, others], kind="stable")].tolist()
            assert recall.ranks[target, end].tolist() == [by_approximation.index(one) for one in order]


def test_recall_counts_ranks_below_the_number_of_candidates() -> None:
    recall = Recall("test", np.array([[[0, 3, 1], [2, 0, 9]]]))
    assert recall.of(1, 1) == pytest.approx(0.5)
    assert recall.of(2, 3) == pytest.approx(0.75)
    assert recall.of(100, 4) == pytest.approx(5 / 6)


def test_a_worker_that_another_one_overtakes_keeps_its_basis_and_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "store")
    inventory = take_inventory(Layout(tmp_path / "store"), ["*"])
    checkpoint = inventory.checkpoints[0]
    slow, fast = CompressedStore(inventory, 32), CompressedStore(inventory, 32)

    def overtaken(gram: Float64, rows: int) -> Basis:
        monkeypatch.undo()
        fast.prepare(checkpoint)
        fast.add(checkpoint, 0)
        basis = make_basis(gram, rows)
        return Basis(-basis.forward, -basis.backward)  # as on another machine

    monkeypatch.setattr(compressed_store, "make_basis", overtaken)
    slow.prepare(checkpoint)
    assert slow.missing(checkpoint) == len(slow.parts) - 1
    assert not slow.add(checkpoint, 0)
    assert slow.add(checkpoint, 1)
    assert fast.read(checkpoint, 1).rows == fast.parts[1]


def test_the_parts_of_another_training_set_are_removed_with_its_basis(tmp_path: Path) -> None:
    make_store(tmp_path / "store")
    inventory = take_inventory(Layout(tmp_path / "store"), ["*"])
    checkpoint = inventory.checkpoints[0]
    for part_rows in (32, 64):
        store = CompressedStore(inventory, part_rows)
        store.prepare(checkpoint)
        assert store.missing(checkpoint) == len(store.parts)
        for number in range(len(store.parts)):
            assert store.add(checkpoint, number)
