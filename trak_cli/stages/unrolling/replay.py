"""The run, trained once more, from which derivatives go backward."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from trak_cli.config.schema import TrakConfig
from trak_cli.errors import InputError, Problem
from trak_cli.stages.training.checkpoint_files import checkpoint_path
from trak_cli.stages.training.trainer_run import Training
from trak_cli.stages.unrolling.stored_weights import Comparison, compare_with_checkpoint
from trak_cli.store.json_files import read_json, replace_json
from trak_cli.types import Reporter
from trak_cli.unrolling.unroll import Unrolling

#: Largest share of the memory for the derivatives with respect to the weights; the rest is for states, graphs and adjoints.
_DERIVATIVES = 0.25


@dataclass(frozen=True)
class Replay:
    """The finished forward pass.

    Attributes:
        unrolling: what goes backward.
        steps: number of training steps.
        seconds: how long the training took.
    """

    unrolling: Unrolling
    steps: int
    seconds: float


@contextmanager
def replayed(config: TrakConfig, training: Training, block: int, comparison_file: Path, reporter: Reporter) -> Iterator[Replay]:
    """Train the run once more, keep its states, and compare its weights with the checkpoint of `trak train`.

    Args:
        block: largest number of targets of a sweep.
        comparison_file: where the result of the comparison is stored.

    Raises:
        ConfigError: ``unroll.memory_mb`` is too small.
        InputError: the trainer is not a sequence of steps, the task has no losses of single samples, the training diverged,
            or the checkpoint is of another training.
    """
    seed = config.seed + config.unroll.run
    with training.steps(range(training.rows), seed) as run:
        initial = [parameter.detach().clone() for parameter in run.model.parameters()]
        block = min(block, max(1, int(_DERIVATIVES * config.unroll.memory_mb / _derivative_mb(run.rows))))
        budget = config.unroll.memory_mb - block * _derivative_mb(run.rows)
        unrolling = Unrolling(run, training.output, budget, block)
        start = time.perf_counter()
        with reporter.meter("train once more", run.steps, "steps") as meter:
            unrolling.forward(meter)
        seconds = time.perf_counter() - start
        _require_finite(run.model)
        comparison = compare_with_checkpoint(run.model, initial, checkpoint_path(config.train, seed))
        replace_json(comparison_file, {"difference": comparison.difference})
        yield Replay(unrolling, run.steps, seconds)


def stored_comparison(config: TrakConfig, path: Path) -> Comparison | None:
    """The comparison with the checkpoint when the run was last trained once more; None without the file ``path``."""
    if not path.exists():
        return None
    return Comparison(checkpoint_path(config.train, config.seed + config.unroll.run), read_json(path)["difference"])


def _derivative_mb(rows: int) -> float:
    """MiB of the derivative of a target with respect to the weights of all samples, in float64."""
    return 8 * rows / 2**20


def _require_finite(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            found = f"{name} with NaN or infinite values after the last step: the training diverged"
            remedy = "train with a smaller trainer.lr, or with trainer.clip_grad=1"
            raise InputError(Problem("trainer", found, "finite weights", remedy))
