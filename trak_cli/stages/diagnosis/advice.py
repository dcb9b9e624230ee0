"""Which flags would make a run cheaper, from what was measured."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from trak_cli.config.schema import TrakConfig
from trak_cli.stages.diagnosis.costs import Costs
from trak_cli.stages.featurizing.engine_selection import GradientPlan

#: A run is called long above this many seconds, and large above this many bytes.
LONG, LARGE = 3600.0, 10 * 2**30

#: A share of the time that is worth a word.
_MUCH = 0.4


def advice(config: TrakConfig, device: torch.device, plan: GradientPlan | None, costs: Costs | None) -> list[str]:
    """One sentence for each flag, most useful first; none where the run is cheap as it is."""
    if plan is None or costs is None:
        return []
    return [*_time(config, device, plan, costs), *_memory(config, costs)]


def _time(config: TrakConfig, device: torch.device, plan: GradientPlan, costs: Costs) -> Iterator[str]:
    if costs.seconds > LONG:
        workers = min(1000, max(2, round(costs.seconds / LONG)))
        yield f"worker.count={workers} (an array of {workers} tasks) brings the time of each to about an hour"
    if device.type == "cpu" and torch.cuda.is_available():
        yield "device=cuda: there is a GPU, and it is not used"
    if plan.engine == "loop" and config.gradients.engine == "loop":
        yield "gradients=auto tries engines that take many samples at once"
    if costs.projection > _MUCH and config.projection.kind in ("rademacher", "gaussian"):
        yield f"projection=sjlt: {costs.projection:.0%} of the time goes to the dense random matrix"
    if costs.data > _MUCH:
        readers = "features.readers=8, or " if device.type != "cpu" and (config.features.readers or 1) < 8 else ""
        faster = f"{readers}a dataset that reads faster (smaller images, decoded once)"
        yield f"{faster}: {costs.data:.0%} of the time goes to reading"
    if costs.gradients > _MUCH and costs.seconds > LONG:
        yield f"parameters.include=[…] with fewer parameters: {costs.gradients:.0%} of the time goes to gradients"


def _memory(config: TrakConfig, costs: Costs) -> Iterator[str]:
    if costs.microbatch == 1 and config.gradients.microbatch is None:
        memory = config.gradients.memory_mb
        yield f"gradients.memory_mb={4 * memory}: only one sample at a time fits into {memory} MiB"
    if costs.features > LARGE and config.features.dtype == "float32":
        yield "features.dtype=float16 halves the features on disk"
    if costs.scores > LARGE and config.score.top_k is None:
        yield "score.top_k=100 keeps the extremes of the scores only"
