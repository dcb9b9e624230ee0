"""What must not change the result: shards, workers, restarts, microbatches, engines, threads, growth, another folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scores_oracle import scores
from small_project import (
    Everything,
    assert_close,
    assert_identical,
    elsewhere,
    read_store,
    relative_error,
    stamps,
)
from tiny_project import ROWS, SHARD_ROWS, TARGETS, weights

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.config.estimators import shipped_estimators
from trak_cli.stages.scoring.gram_sums import curvature_rows
from trak_cli.store.container import read_image
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores
from trak_cli.types import Float32, Float64

MEMBERS = shipped_estimators()


class Project(Protocol):
    """The part of the project fixtures that is used here."""

    folder: Path

    @property
    def store(self) -> Path: ...

    def done(self, stage: str, *arguments: str) -> object: ...

    def refused(self, code: int, stage: str, *arguments: str, says: tuple[str, ...]) -> str: ...


GROWN_ROWS = 70
GROWN = f"dataset.train.rows={GROWN_ROWS}"
WHOLE_SHARDS = ROWS // SHARD_ROWS

#: A stand-in for arithmetic whose last bits depend on a sample's place in its microbatch.
LANES = """
import torch
from torch.utils.data import default_collate


class Collate:
    def __call__(self, samples):
        inputs, answers = default_collate(samples)
        return inputs + 1e-6 * torch.arange(len(inputs))[:, None], answers
"""


@pytest.fixture(scope="module")
def reference(finished: dict[str, Path]) -> Everything:
    """The features of one uninterrupted process with the project's own settings."""
    return read_store(finished["featurize"] / "runs" / "tiny")


def oracle(spec: EstimatorSpec, found: Everything, split: str = "test") -> Float64:
    """The formula on whole matrices."""
    checkpoints = sorted({checkpoint for checkpoint, _ in found})
    train = [found[checkpoint, "train"] for checkpoint in checkpoints]
    targets = [found[checkpoint, split].features for checkpoint in checkpoints]
    columns = [[getattr(one, name) for one in train] for name in ("features", "out_to_loss", "outputs")]
    return scores(spec, columns[0], columns[1], targets, columns[2], [curvature_rows(one) for one in train])


def dense(project: Project, estimator: str = "early_training", split: str = "test") -> Float32:
    return read_scores(Layout(project.store).scores(estimator, split))


# The same bits


@pytest.mark.parametrize("shard_rows", [1, 7, 1000])
def test_shards_do_not_change_results(project: Project, reference: Everything, shard_rows: int) -> None:
    """Also where a shard begins or ends inside a microbatch, and where it is shorter than one."""
    assert_identical(elsewhere(project, f"features.shard_rows={shard_rows}"), reference)


@pytest.mark.parametrize("shard_rows", [7, 12])
def test_a_sample_keeps_its_place_in_its_microbatch(project: Project, shard_rows: int) -> None:
    """Whatever shard asks for it: microbatches lie on a grid of absolute rows, and no shard boundary moves them."""
    (project.folder / "lanes.py").write_text(LANES)
    collate = "dataset.collate={_target_: lanes.Collate}"
    project.done("featurize", collate)
    assert_identical(elsewhere(project, collate, f"features.shard_rows={shard_rows}"), read_store(project.store))


@pytest.mark.parametrize("count", [2, 3])
def test_workers_do_not_change_results(project: Project, reference: Everything, count: int) -> None:
    """One after another, the last one first, each with its part only."""
    for index in reversed(range(count)):
        project.done("featurize", f"worker.index={index}", f"worker.count={count}")
    assert_identical(read_store(project.store), reference)


def test_worker_counts_may_change(project: Project, reference: Everything) -> None:
    """What one of three workers left undone, a single process takes; what was there stays."""
    project.done("featurize", "worker.index=1", "worker.count=3")
    before = stamps(project.store)
    assert 0 < len(before) < len(list(Layout(project.store).checkpoints())) * 5
    project.done("featurize")
    after = stamps(project.store)
    assert {name: after[name] for name in before} == before
    assert_identical(read_store(project.store), reference)


def test_restarts_do_not_change_results(featurized: Project, reference: Everything) -> None:
    """Shards that are gone come back bit for bit; the others stay."""
    lost = sorted(featurized.store.glob("features/*/train/*/*.h5"))[1::3]
    for path in lost:
        path.unlink()
    before = stamps(featurized.store)
    featurized.done("featurize")
    after = stamps(featurized.store)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + len(lost)
    assert_identical(read_store(featurized.store), reference)


# The same to rounding


@pytest.mark.parametrize(
    "overrides",
    [
        ("gradients.microbatch=1",),
        ("gradients.microbatch=13",),
        ("gradients.microbatch=64",),
        ("gradients.microbatch=null",),
        ("gradients.engine=loop",),
        ("gradients.engine=vmap",),
        ("gradients.engine=auto", "gradients.microbatch=null"),
        ("gradients.engine=loop", "gradients.microbatch=5"),
        ("threads=2",),
    ],
    ids=" ".join,
)
def test_the_way_of_computing_changes_only_the_last_bits(
    project: Project, reference: Everything, overrides: tuple[str, ...]
) -> None:
    threads = torch.get_num_threads()
    try:
        assert_close(elsewhere(project, *overrides), reference, relative=1e-5)
    finally:
        torch.set_num_threads(threads)


# The formula


@pytest.mark.parametrize("estimator", sorted(MEMBERS))
def test_scores_are_the_formula(featurized: Project, reference: Everything, estimator: str) -> None:
    featurized.done("finalize", f"estimator={estimator}")
    featurized.done("score", f"estimator={estimator}")
    found = dense(featurized, estimator)
    assert found.shape == (TARGETS, ROWS)
    assert relative_error(found, oracle(MEMBERS[estimator], reference)) < 1e-5


@pytest.mark.parametrize(("dtype", "relative"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8), ("int8", 0.0)])
def test_narrow_features(project: Project, reference: Everything, dtype: str, relative: float) -> None:
    """Features are rounded once, to nearest; the scores are the formula on the rounded ones."""
    for stage in ("featurize", "finalize", "score"):
        project.done(stage, f"features.dtype={dtype}")
    rounded = read_store(project.store)
    for key, one in reference.items():
        error = np.abs(rounded[key].features - one.features)
        largest = np.abs(one.features).max(axis=1, keepdims=True)
        of_largest = 1 / 254 if dtype == "int8" else 2.0**-39
        assert (error <= relative * np.abs(one.features) + of_largest * largest * (1 + 1e-6)).all(), key
        assert error.max() > 0
        assert rounded[key].out_to_loss.tobytes() == one.out_to_loss.tobytes()
    assert relative_error(dense(project), oracle(MEMBERS["early_training"], rounded)) < 1e-5


@pytest.mark.parametrize("k", [3, ROWS + 1])
def test_top_k_are_the_extremes_of_the_dense_scores(scored: Project, k: int) -> None:
    """Also if more are requested than exist, and if a shard holds fewer than k rows."""
    whole = dense(scored)
    scored.done("score", f"score.top_k={k}", "estimator.name=ends")
    kept = read_image(Layout(scored.store).scores_top("ends", "test")).arrays
    ascending = np.argsort(whole, axis=1, kind="stable")
    for end, order in (("top", ascending[:, ::-1]), ("bottom", ascending)):
        rows = order[:, : min(k, ROWS)]
        np.testing.assert_array_equal(kept[f"{end}_rows"], rows)
        np.testing.assert_array_equal(kept[f"{end}_scores"], np.take_along_axis(whole, rows, axis=1))


@pytest.mark.parametrize("target_block", [1, 5])
def test_scores_do_not_depend_on_blocks_or_workers(scored: Project, target_block: int) -> None:
    whole = dense(scored)
    for index in range(2):
        workers = (f"worker.index={index}", "worker.count=2")
        scored.done("score", f"score.target_block={target_block}", "estimator.name=blocks", *workers)
    assert relative_error(dense(scored, "blocks"), whole) < 1e-6


# Growth


def test_appended_rows_recompute_the_tail_only(scored: Project) -> None:
    """Whole shards stay as they are; finalize and score follow, in this order, each saying what it needs."""
    before = stamps(scored.store)
    scored.done("featurize", GROWN)
    after = stamps(scored.store)
    tail = f"{WHOLE_SHARDS:05}.h5"
    for name, stamp in before.items():
        assert (after[name] == stamp) == ("train" not in Path(name).parts or Path(name).name != tail), name
    added = {Path(name) for name in after.keys() - before.keys()}
    assert {path.name for path in added} == {f"{WHOLE_SHARDS + 1:05}.h5"}

    scored.refused(3, "score", GROWN, says=("rows", str(ROWS), str(GROWN_ROWS), "score.overwrite=true"))
    scored.refused(3, "score", GROWN, "score.overwrite=true", says=("run trak finalize",))
    grams = stamps(scored.store / "finalized")
    scored.done("finalize", GROWN)
    assert all(stamp != grams[name] for name, stamp in stamps(scored.store / "finalized").items())
    scored.done("score", GROWN, "score.overwrite=true")
    found = dense(scored)
    assert found.shape == (TARGETS, GROWN_ROWS)

    fresh = elsewhere(scored, GROWN)
    assert_identical(read_store(scored.store), fresh)
    assert relative_error(found, oracle(MEMBERS["early_training"], fresh)) < 1e-5


def test_appended_rows_and_no_scores_yet(finalized: Project) -> None:
    finalized.done("featurize", GROWN)
    finalized.refused(3, "score", GROWN, says=("no Gram matrix of all training rows", "run trak finalize"))
    finalized.done("finalize", GROWN)
    finalized.done("score", GROWN)
    assert dense(finalized).shape == (TARGETS, GROWN_ROWS)


def test_another_checkpoint_keeps_the_first_two(scored: Project) -> None:
    before = stamps(scored.store)
    save_file(weights(2), scored.folder / "checkpoints" / "c.safetensors")
    scored.done("featurize")
    scored.refused(3, "score", says=("checkpoints", "score.overwrite=true"))
    scored.refused(3, "score", "estimator.name=three", says=("no Gram matrix of all training rows", "run trak finalize"))
    scored.done("finalize")
    scored.done("score", "estimator.name=three")
    after = stamps(scored.store)
    assert {name: after[name] for name in before} == before
    everything = read_store(scored.store)
    assert len({checkpoint for checkpoint, _ in everything}) == 3
    assert relative_error(dense(scored, "three"), oracle(MEMBERS["early_training"], everything)) < 1e-5


def test_another_target_split_costs_its_own_shards_only(scored: Project) -> None:
    """No new Gram matrix, and the scores of the first split stay."""
    before = stamps(scored.store)
    scored.done("featurize", "+dataset.targets.more={_target_: tiny_plugin.Data, rows: 5, seed: 3}")
    scored.done("score")
    after = stamps(scored.store)
    assert {name: after[name] for name in before} == before
    assert all("more" in name for name in after.keys() - before.keys())
    found = dense(scored, split="more")
    assert found.shape == (5, ROWS)
    assert relative_error(found, oracle(MEMBERS["early_training"], read_store(scored.store), "more")) < 1e-5


# Another place


def test_a_store_that_was_moved(scored: Project) -> None:
    """No path in it is absolute."""
    question = ("top", "--json", "--target", "3", "-k", "4")
    whole, answer = dense(scored), json.loads(stdout(scored.done(*question)))
    moved = scored.folder / "archive" / "100% renamed"
    moved.parent.mkdir()
    shutil.move(scored.store, moved)
    assert read_scores(Layout(moved).scores("early_training", "test")).tobytes() == whole.tobytes()
    elsewhere_answer = json.loads(stdout(scored.done(*question, f"store='{moved.relative_to(scored.folder)}'")))
    assert elsewhere_answer["targets"] == answer["targets"]
    assert [one["row"] for one in answer["targets"][0]["helpful"]] == np.argsort(-whole[3])[:4].tolist()


def stdout(outcome: object) -> str:
    found = getattr(outcome, "stdout", None)
    assert isinstance(found, str)
    return found
