"""Workers share the training rows of finalize and score: any number, in any order, killed or not, leaves the same bytes."""

from __future__ import annotations

import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from synthetic_store import DIM, make_store

from trak_cli.config.load import Loaded, load
from trak_cli.config.schema import WorkerConfig
from trak_cli.errors import StoreError
from trak_cli.stages.finalize import FinalizeSummary, finalize
from trak_cli.stages.score import ScoreSummary, score
from trak_cli.stages.scoring.gram_parts import GramParts
from trak_cli.store import atomic_write
from trak_cli.store.container import read_image
from trak_cli.types import Silent

#: Its index, and how many there are.
Worker = tuple[int, int]

ESTIMATORS = ("early_training", "trak", "balanced")


class Killed(BaseException):
    """Ends a stage as a signal does: nothing handles it."""


@cache
def loaded(stage: str, *overrides: str) -> Loaded:
    return load(stage, None, None, [*overrides, "store=replaced"])


class Run:
    """A store, and the stages called on it."""

    def __init__(self, root: Path, part_rows: int | None = 20, estimator: str = "early_training", **options: bool) -> None:
        self.root, self.part_rows, self.estimator = root, part_rows, estimator
        make_store(root, **options)

    def finalize(self, worker: Worker = (0, 1), part_rows: int | None = None) -> FinalizeSummary:
        return finalize(self._loaded("finalize", worker, part_rows), Silent())

    def score(self, worker: Worker = (0, 1), part_rows: int | None = None, overwrite: bool = False) -> ScoreSummary:
        overrides = ("score.top_k=5", "score.target_block=10", f"score.overwrite={overwrite}")
        return score(self._loaded("score", worker, part_rows, *overrides), Silent())

    def _loaded(self, stage: str, worker: Worker, part_rows: int | None, *overrides: str) -> Loaded:
        known = loaded(stage, f"estimator={self.estimator}", *overrides)
        config = replace(known.config, store=str(self.root), worker=WorkerConfig(*worker, part_rows or self.part_rows))
        return replace(known, config=config)

    def results(self) -> dict[str, bytes]:
        """What finalize and score have left, by path."""
        folders = (self.root / "finalized", self.root / "scores")
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for folder in folders
            for path in folder.rglob("*")
            if path.is_file()
        }


def workers(count: int) -> list[Worker]:
    return [(index, count) for index in range(count)]


def alone(root: Path, part_rows: int = 20, estimator: str = "early_training", **options: bool) -> dict[str, bytes]:
    run = Run(root, part_rows, estimator, **options)
    run.finalize()
    run.score()
    return run.results()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results of one process."""
    results = alone(tmp_path_factory.mktemp("alone") / "store")
    assert len(results) == 3  # two Gram matrices and one file of scores
    return results


@pytest.mark.parametrize(
    ("estimator", "part_rows", "count"),
    [("early_training", 20, 2), ("early_training", 7, 5), ("trak", 33, 3), ("balanced", 20, 4), ("trak", 20, 40)],
)
def test_any_number_of_workers_in_any_order_leaves_the_bytes_of_one_process(
    tmp_path: Path, estimator: str, part_rows: int, count: int
) -> None:
    """40 is more than there are units of work."""
    run = Run(tmp_path / "shared", part_rows, estimator)
    for stage in (run.finalize, run.score):
        order = workers(count)
        random.Random(count).shuffle(order)
        for worker in order:
            stage(worker)
    assert run.results() == alone(tmp_path / "alone", part_rows, estimator)


def test_terms_are_shared_like_rows(tmp_path: Path) -> None:
    run = Run(tmp_path / "shared", with_terms=True)
    for worker in reversed(workers(3)):
        run.finalize(worker)
    run.score()
    assert run.results() == alone(tmp_path / "alone", with_terms=True)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_parts_change_a_gram_matrix_by_rounding_only(tmp_path: Path, estimator: str) -> None:
    whole, parts = Run(tmp_path / "whole", None, estimator), Run(tmp_path / "parts", 20, estimator)
    whole.finalize()
    parts.finalize()
    for path in (whole.root / "finalized").rglob("*.h5"):
        one, other = read_image(path).arrays, read_image(parts.root / path.relative_to(whole.root)).arrays
        matrices = [(arrays["eigenvectors"] * arrays["eigenvalues"]) @ arrays["eigenvectors"].T for arrays in (one, other)]
        np.testing.assert_allclose(matrices[1], matrices[0], rtol=0, atol=1e-13 * np.abs(matrices[0]).max())
        assert matrices[0].shape == (DIM, DIM)


def test_workers_of_finalize_begin_with_different_checkpoints(tmp_path: Path) -> None:
    """So that each weighting is computed once and found by the others, rather than by all at the same time."""
    order = [list(Run(tmp_path / str(worker)).finalize((worker, 3)).incomplete) for worker in range(3)]
    assert order == [["c0", "c1"], ["c1", "c0"], ["c0", "c1"]]


def test_what_lacks_parts_is_named_and_the_last_worker_merges(tmp_path: Path) -> None:
    run = Run(tmp_path / "store")  # 5 parts under each of two checkpoints
    first, last = workers(2)
    summary = run.finalize(first)
    assert (summary.incomplete, summary.grams) == ({"c0": 2, "c1": 3}, [])
    with pytest.raises(StoreError, match="run trak finalize"):
        run.score()
    summary = run.finalize(last)
    assert summary.incomplete == {}
    assert [(gram.checkpoint, gram.reused) for gram in summary.grams] == [("c0", False), ("c1", False)]
    assert [gram.reused for gram in run.finalize(first).grams] == [True, True]


def test_parts_of_workers_killed_before_the_merge_are_merged_by_one_without_a_share(
    tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "store")
    with monkeypatch.context() as context:
        context.setattr(GramParts, "finish", lambda *_: None)
        run.finalize()
    assert [gram.checkpoint for gram in run.finalize((39, 40)).grams] == ["c0", "c1"]
    run.score()
    assert run.results() == expected


@pytest.mark.parametrize("harm", ["changed", "cut", "empty"])
def test_a_damaged_part_is_computed_again(tmp_path: Path, expected: dict[str, bytes], harm: str) -> None:
    run = Run(tmp_path / "store")
    run.finalize((0, 2))
    for path in [part for part in (run.root / "finalized").rglob("*.h5") if "00000" in part.name or "weighting" in part.name]:
        data = path.read_bytes()
        path.write_bytes({"changed": data[:-1] + bytes([data[-1] ^ 1]), "cut": data[:900], "empty": b""}[harm])
    run.finalize((1, 2))
    run.finalize()
    run.score()
    assert run.results() == expected


def test_parts_of_another_length_are_computed_again_and_such_candidates_are_refused(
    tmp_path: Path, expected: dict[str, bytes]
) -> None:
    run = Run(tmp_path / "store")
    run.finalize((0, 2), part_rows=30)
    run.finalize()
    run.score((0, 2), part_rows=64)
    with pytest.raises(StoreError, match="candidates_of"):
        run.score()
    run.score(overwrite=True)
    assert run.results() == expected


@pytest.mark.parametrize("seed", range(4))
def test_workers_that_stop_at_any_step_of_writing_leave_nothing_wrong_and_nothing_over(
    tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Three workers in turns; each call stops after a random number of steps, until all have come to their end."""
    run = Run(tmp_path / "store")
    generator = random.Random(seed)
    for stage in (run.finalize, run.score):
        done: set[int] = set()
        while len(done) < 3:
            index = generator.randrange(3)
            steps = iter(range(generator.randrange(1, 60)))
            monkeypatch.setattr(atomic_write, "on_step", lambda *_, steps=steps: next(steps, None) is None and _stop())
            with suppress(Killed):
                stage((index, 3))
                done.add(index)
        monkeypatch.setattr(atomic_write, "on_step", lambda *_: None)
    assert run.results() == expected


def _stop() -> None:
    raise Killed


def test_processes_at_once_one_of_them_killed(tmp_path: Path, expected: dict[str, bytes]) -> None:
    run = Run(tmp_path / "store")
    for stage in (run.finalize, run.score):
        victim, *others = [_started(stage, worker) for worker in workers(3)]
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        assert [os.waitpid(child, 0)[1] for child in others] == [0, 0]
        again = [_started(stage, worker) for worker in workers(2)]
        assert [os.waitpid(child, 0)[1] for child in again] == [0, 0]
    assert run.results() == expected


def _started(stage: Callable[..., object], worker: Worker) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            stage(worker)
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    return child
