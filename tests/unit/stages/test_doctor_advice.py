"""What the doctor proposes, from costs that were measured."""

from __future__ import annotations

import pytest
import torch

from trak_cli.config.schema import TrakConfig
from trak_cli.stages.diagnosis.advice import advice
from trak_cli.stages.diagnosis.costs import Costs
from trak_cli.stages.index.run_plan import RunPlan

PLAN = RunPlan("hooks", 32, 1024, {})


def costs(data: float) -> Costs:
    sizes = dict.fromkeys(("peak_memory", "features", "finalized", "scores", "free_disk"), 1)
    shares = {"data": data, "gradients": 0.2, "projection": 0.1}
    return Costs(rows=100, checkpoints=1, microbatch=32, samples_per_second=10, seconds=10, slow_seconds=20, **shares, **sizes)


def told(device: str, readers: int | None, data: float = 0.7) -> str:
    config = TrakConfig()
    config.features.readers = readers
    return "\n".join(advice(config, torch.device(device), PLAN, costs(data)))


@pytest.mark.parametrize("readers", [None, 0, 1, 4])
def test_on_a_gpu_more_threads_may_read(readers: int | None) -> None:
    assert "features.readers=8, or a dataset that reads faster" in told("cuda", readers)
    assert "reading takes 70% of the time" in told("cuda", readers)


def test_advice_is_to_speed_up_the_data_if_readers_are_already_used() -> None:
    for found in (told("cuda", 8), told("cpu", None)):
        assert found.startswith("a dataset that reads faster")
        assert "readers" not in found


def test_fast_data_causes_no_advice() -> None:
    assert told("cuda", None, data=0.3) == ""
