"""The run, trained once more, from which derivatives go backward."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from trak_cli.config.schema import TrakConfig
from trak_cli.errors import InputError, Problem
from trak_cli.stages.training.checkpoint_files import checkpoint_path
from trak_cli.stages.training.trainer_run import Training
from trak_cli.stages.unrolling.state_files import StateFiles
from trak_cli.stages.unrolling.stored_weights import Comparison, compare_with_checkpoint
from trak_cli.store.json_files import read_json, replace_json
from trak_cli.types import Reporter
from trak_cli.unrolling.memory_plan import Budget
from trak_cli.unrolling.unroll import Unrolling

#: MiB for what no tensor shows: the code of operations that is loaded from the libraries of PyTorch on first use.
_BESIDE_TENSORS = 96

#: Bytes of a score while it is computed and stored: the derivative in float64 and in float32.
_OF_SCORE = 12


@dataclass(frozen=True)
class Replay:
    """The finished forward pass.

    Attributes:
        unrolling: what goes backward.
        steps: number of training steps.
        made: how many of them were made; the others were made before the run was interrupted.
        seconds: how long a training of all steps takes; 0 if none was made.
    """

    unrolling: Unrolling
    steps: int
    made: int
    seconds: float


@dataclass(frozen=True)
class ReplayFiles:
    """What the forward pass stores: its states, and the result of the comparison with the checkpoint."""

    states: StateFiles
    comparison: Path


@contextmanager
def replayed(config: TrakConfig, training: Training, block: int, files: ReplayFiles, reporter: Reporter) -> Iterator[Replay]:
    """Train the run once more, keep its states, and compare its weights with the checkpoint of `trak train`.

    Args:
        block: largest number of targets of a sweep.
        files: where the states and the result of the comparison are stored.

    Raises:
        ConfigError: ``unroll.memory_mb`` is too small.
        InputError: the trainer is not a sequence of steps, the task has no losses of single samples, the training diverged,
            or the checkpoint is of another training.
    """
    seed = config.seed + config.unroll.run
    with training.steps(range(training.rows), seed) as run:
        initial = [parameter.detach().clone() for parameter in run.model.parameters()]
        budget = unroll_budget(config.unroll.memory_mb, initial, run.rows)
        unrolling = Unrolling(run, training.output, budget, block)
        start = time.perf_counter()
        with reporter.meter("train once more", run.steps, "steps") as meter:
            made = unrolling.forward(meter, files.states)
        files.states.finish()
        seconds = (time.perf_counter() - start) * run.steps / made if made else 0.0
        _require_finite(run.model)
        comparison = compare_with_checkpoint(run.model, initial, checkpoint_path(config.train, seed))
        replace_json(files.comparison, {"difference": comparison.difference})
        yield Replay(unrolling, run.steps, made, seconds)


def unroll_budget(memory_mb: float, initial: Sequence[Tensor], rows: int) -> Budget:
    """The budget of ``unroll.memory_mb``, less what is needed beside the differentiated training.

    Args:
        initial: copies of the parameters, which are kept.
        rows: number of training samples.
    """
    parameters = sum(value.nbytes for value in initial) / 2**20
    return Budget(memory_mb, _BESIDE_TENSORS + parameters, _OF_SCORE * rows / 2**20)


def stored_comparison(config: TrakConfig, path: Path) -> Comparison | None:
    """The comparison with the checkpoint when the run was last trained once more; None without the file ``path``."""
    if not path.exists():
        return None
    return Comparison(checkpoint_path(config.train, config.seed + config.unroll.run), read_json(path)["difference"])


def _require_finite(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            found = f"{name} with NaN or infinite values after the last step: the training diverged"
            remedy = "train with a smaller trainer.lr, or with trainer.clip_grad=1"
            raise InputError(Problem("trainer", found, "finite weights", remedy))
