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
#: Nothing fails, and nobody waits for storage or files.
QUIET = replace(MODEL["read_rates"]("ResNet-18"), failure_hours=0.0, storage=1e18, file_operations=1e18, listing=1e18)


@pytest.mark.parametrize("gpus", [1, 7, 60])
@pytest.mark.parametrize(("sample_bytes", "link"), [(50_000, 3e9), (5_000_000, 1e9)])
def test_without_failures_and_queues_the_time_is_a_sum(gpus: int, sample_bytes: int, link: float) -> None:
    """A start, the first read, then blocks whose reading and computing overlap, each written before the next one."""
    work, rates, blocks = replace(WORK, sample_bytes=sample_bytes), replace(QUIET, link=link), MODEL["BLOCKS"]
    rows = 240_000 / gpus / blocks
    read, compute, write = rows * sample_bytes / link, rows / rates.gpu, rows * 4096 * 2 / link
    expected = rates.start_seconds + read + (blocks - 1) * max(read, compute) + compute + blocks * write
    plan = Plan(gpus, 1024, changed=False)
    assert featurize(work, plan, rates).env.now == pytest.approx(expected, rel=1e-9)
    assert MODEL["undisturbed_seconds"](work, plan, rates) == pytest.approx(expected, rel=1e-9)


def test_storage_that_is_full_sets_the_time() -> None:
    """With less bandwidth than the GPUs ask for, all bytes take their share of it, but for the start and the ends."""
    rates = replace(QUIET, storage=1e9)
    seconds = featurize(WORK, Plan(60, 1024, changed=False), rates).env.now - rates.start_seconds
    moving = 240_000 * (50_000 + 4096 * 2) / 1e9
    assert moving <= seconds < 1.3 * moving


def test_metadata_that_is_full_sets_the_time() -> None:
    rates = replace(QUIET, file_operations=10.0)
    seconds = featurize(WORK, Plan(60, 1024, changed=False), rates).env.now - rates.start_seconds
    serving = 240_000 / 1024 * MODEL["OPERATIONS_OF_A_SHARD"] / 10
    assert serving <= seconds < 1.3 * serving


def test_failures_cost_about_their_number_times_restart_and_half_a_shard() -> None:
    """One GPU that fails every 20 seconds of work on average, and starts again at once: on average half a shard is repeated."""
    rates = replace(QUIET, failure_hours=20 / 3600, restart_seconds=0.0, start_seconds=0.0)
    plan, shard = Plan(1, 1024, changed=False), 1024 / rates.gpu
    calm = featurize(WORK, plan, replace(rates, failure_hours=0.0)).env.now
    runs = [featurize(WORK, plan, rates, seed) for seed in range(20)]
    lost = sum(run.env.now - calm for run in runs) / sum(run.failures for run in runs)
    assert 0.4 * shard < lost < 0.6 * shard
    assert sum(run.failures for run in runs) / 20 == pytest.approx(calm / 20, rel=0.25)


def test_finalize_and_score_shrink_with_the_processes_that_share_them() -> None:
    rates = QUIET
    for changed, expected in ((False, 1.0), (True, 8.0)):
        few, many = (
            MODEL["finalize_seconds"](replace(WORK, samples=10**8), Plan(gpus, 1024, changed), rates) for gpus in (2, 16)
        )
        assert few / many == pytest.approx(expected, rel=0.1)
    one, ten = (MODEL["score_seconds"](replace(WORK, samples=10**8), Plan(gpus, 1024, True), rates) for gpus in (1, 10))
    assert one / ten == pytest.approx(10, rel=0.1)


def test_what_limits_a_run_is_named() -> None:
    huge = replace(WORK, samples=10**7)
    assert simulate(huge, Plan(1, 1024, changed=False), QUIET).limit == "GPU"
    assert simulate(huge, Plan(50, 1024, changed=False), replace(QUIET, storage=1e8)).limit == "storage"
    assert simulate(huge, Plan(50, 1024, changed=True), replace(QUIET, file_operations=10.0)).limit == "files"
