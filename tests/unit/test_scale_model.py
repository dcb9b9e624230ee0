"""scripts/simulate_scale.py: the simulation against closed forms, and what failures and shared parts add."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("simpy", reason="the simulation needs SimPy (extra dev)")

MODEL: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "simulate_scale.py"))
Plan, simulate, featurize = MODEL["Plan"], MODEL["simulate"], MODEL["featurize"]
WORK = MODEL["Work"]("a small one", "ResNet-18", 120_000, 2, 50_000, 100)


def plan(gpus: int) -> Any:
    """The default, with shards of 1,024 rows and parts of 16,384."""
    return Plan(gpus, 1024, 2**14, (gpus, gpus))


#: Nothing fails, and nobody waits for storage or files.
QUIET = replace(
    MODEL["read_rates"]("ResNet-18"), failure_hours=0.0, storage=1e18, file_operations=1e18, listing=1e18, shard_seconds=0.0
)


@pytest.mark.parametrize("gpus", [1, 7, 60])
@pytest.mark.parametrize(("sample_bytes", "link"), [(50_000, 3e9), (5_000_000, 1e9)])
def test_without_failures_and_queues_the_time_is_a_sum(gpus: int, sample_bytes: int, link: float) -> None:
    """A start, the first read, then blocks whose reading and computing overlap, each written before the next one."""
    work, rates, blocks = replace(WORK, sample_bytes=sample_bytes), replace(QUIET, link=link), MODEL["BLOCKS"]
    rows = 240_000 / gpus / blocks
    read, compute, write = rows * sample_bytes / link, rows / rates.gpu, rows * 4096 * 2 / link
    expected = rates.start_seconds + read + (blocks - 1) * max(read, compute) + compute + blocks * write
    cut = plan(gpus)
    assert featurize(work, cut, rates).env.now == pytest.approx(expected, rel=1e-9)
    assert MODEL["undisturbed_seconds"](work, cut, rates) == pytest.approx(expected, rel=1e-9)


def test_storage_that_is_full_sets_the_time() -> None:
    """With less bandwidth than the GPUs ask for, all bytes take their share of it, but for the start and the ends."""
    rates = replace(QUIET, storage=1e9)
    seconds = featurize(WORK, plan(60), rates).env.now - rates.start_seconds
    moving = 240_000 * (50_000 + 4096 * 2) / 1e9
    assert moving <= seconds < 1.3 * moving


def test_metadata_that_is_full_sets_the_time() -> None:
    rates = replace(QUIET, file_operations=10.0)
    seconds = featurize(WORK, plan(60), rates).env.now - rates.start_seconds
    serving = 240_000 / 1024 * MODEL["OPERATIONS_OF_A_SHARD"] / 10
    assert serving <= seconds < 1.3 * serving


def test_failures_cost_about_their_number_times_restart_and_half_a_shard() -> None:
    """One GPU that fails every 20 seconds of work on average, and starts again at once: on average half a shard is repeated."""
    rates = replace(QUIET, failure_hours=20 / 3600, restart_seconds=0.0, start_seconds=0.0)
    cut, shard = plan(1), 1024 / rates.gpu
    calm = featurize(WORK, cut, replace(rates, failure_hours=0.0)).env.now
    runs = [featurize(WORK, cut, rates, seed) for seed in range(20)]
    lost = sum(run.env.now - calm for run in runs) / sum(run.failures for run in runs)
    assert 0.4 * shard < lost < 0.6 * shard
    assert sum(run.failures for run in runs) / 20 == pytest.approx(calm / 20, rel=0.25)


def test_finalize_and_score_shrink_with_the_processes_that_share_them() -> None:
    """Workers share the rows of a checkpoint: without start, merging and repeated reading, time is divided by them."""
    work, rates = replace(WORK, samples=10**8), replace(QUIET, merge=1e18, candidate_seconds=0.0, link=1e18, start_seconds=0.0)
    for seconds in (MODEL["finalize_seconds"], MODEL["score_seconds"]):
        few, many = (seconds(work, plan(workers), rates) for workers in (2, 16))
        assert few / many == pytest.approx(8, rel=0.1)


def test_merging_by_one_process_takes_as_long_for_any_number_of_workers() -> None:
    rates = replace(QUIET, merge=1e6)
    merging = 10**8 / 2**14 * 4096 * 4097 / 2 * 8 / 1e6
    for workers in (10, 1000):
        assert MODEL["finalize_seconds"](replace(WORK, samples=10**8), plan(workers), rates) > merging


def test_the_best_settings_take_no_longer_than_the_default() -> None:
    work, rates = replace(WORK, samples=10**9), MODEL["read_rates"]("ResNet-18")
    default, best, changed = (
        MODEL["after_seconds"](work, MODEL["plan_of"](work, program, 1000, rates), rates) for program in MODEL["PROGRAMS"]
    )
    assert changed < best < default


def test_what_limits_a_run_is_named() -> None:
    huge = replace(WORK, samples=10**7)
    assert simulate(huge, plan(1), QUIET).limit == "GPU"
    assert simulate(replace(huge, sample_bytes=500_000), plan(50), replace(QUIET, storage=1e8)).limit == "storage"
    assert simulate(huge, plan(50), replace(QUIET, file_operations=10.0)).limit == "files"
