"""Settings that would make a run cheaper, given its measured costs."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from trak_cli.config.schema import TrakConfig
from trak_cli.stages.diagnosis.costs import Costs
from trak_cli.stages.index.run_plan import RunPlan

#: A run that takes more seconds is long; files of more bytes are large.
LONG, LARGE = 3600.0, 10 * 2**30

#: A part of the work is worth mentioning above this fraction of the time.
_MUCH = 0.4


def advice(config: TrakConfig, device: torch.device, plan: RunPlan | None, costs: Costs | None) -> list[str]:
    """One line for each setting, most useful first; empty if the run is cheap already."""
    if plan is None or costs is None:
        return []
    return [*_time(config, device, plan, costs), *_memory(config, costs)]


def _time(config: TrakConfig, device: torch.device, plan: RunPlan, costs: Costs) -> Iterator[str]:
    if costs.seconds > LONG:
        workers = min(1000, max(2, round(costs.seconds / LONG)))
        yield f"worker.count={workers} (an array of {workers} tasks) reduces the time of each to about an hour"
    if device.type == "cpu" and torch.cuda.is_available():
        yield "device=cuda: this machine has a GPU that the run does not use"
    if plan.engine == "loop" and config.gradients.engine == "loop":
        yield "gradients=auto tries engines that compute many samples at once"
    if costs.projection > _MUCH and config.projection.kind in ("rademacher", "gaussian"):
        yield f"projection=sjlt: the dense random matrix takes {costs.projection:.0%} of the time"
    if costs.data > _MUCH:
        readers = "features.readers=8, or " if device.type != "cpu" and (config.features.readers or 1) < 8 else ""
        faster = f"{readers}a dataset that reads faster (smaller images, decoded once)"
        yield f"{faster}: reading takes {costs.data:.0%} of the time"
    if costs.gradients > _MUCH and costs.seconds > LONG:
        yield f"parameters.include=[…] with fewer parameters: gradients take {costs.gradients:.0%} of the time"


def _memory(config: TrakConfig, costs: Costs) -> Iterator[str]:
    if costs.microbatch == 1 and config.gradients.microbatch is None:
        memory = config.gradients.memory_mb
        yield f"gradients.memory_mb={4 * memory}: {memory} MiB hold only one sample at a time"
    if costs.features > LARGE and config.features.dtype == "float32":
        yield "features.dtype=float16 halves the features on disk"
    if costs.scores > LARGE and config.score.top_k is None:
        yield "score.top_k=100 stores the highest and lowest scores only"
