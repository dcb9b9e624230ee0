"""The stages as functions: the same names, keys, defaults and files as on the command line."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from trak_cli.api.html import show_summaries
from trak_cli.api.live import Make, holding
from trak_cli.api.progress import reporter_of
from trak_cli.config.load import load
from trak_cli.random_states import random_states_kept
from trak_cli.types import Reporter
from trak_cli.user_errors import report_user_errors

if TYPE_CHECKING:
    from trak_cli.stages.compress import CompressSummary
    from trak_cli.stages.doctor import DoctorSummary
    from trak_cli.stages.evaluation.summary import EvalSummary
    from trak_cli.stages.featurize import FeaturizeSummary
    from trak_cli.stages.finalize import FinalizeSummary
    from trak_cli.stages.refine import RefineSummary
    from trak_cli.stages.retrain import RetrainSummary
    from trak_cli.stages.run import PipelineSummary
    from trak_cli.stages.score import ScoreSummary
    from trak_cli.stages.train import TrainSummary
    from trak_cli.stages.tune import TuneSummary
    from trak_cli.stages.unrolling.summary import UnrollSummary

Summary = TypeVar("Summary")


@contextmanager
def with_gradients() -> Iterator[None]:
    """Compute gradients inside, also where the caller has switched them off (``torch.no_grad``, ``torch.inference_mode``)."""
    import torch  # after the configuration was checked: a wrong key is reported without waiting for the import

    with torch.inference_mode(False), torch.enable_grad():
        yield


__all__ = [
    "compress",
    "doctor",
    "eval_lds",
    "featurize",
    "finalize",
    "refine",
    "retrain",
    "run",
    "score",
    "train",
    "tune",
    "unroll",
]


class Stage(Generic[Summary]):
    """One stage as a function: ``trak.featurize("experiment=digits", projection__dim=512)``."""

    def __init__(self, name: str, about: str) -> None:
        self.name = name
        self.__doc__ = f"{about}\n\nLike `trak {name}`; the arguments are those of :meth:`Stage.__call__`."

    def __call__(
        self,
        *overrides: str,
        config_name: str | None = None,
        config_dir: str | Path | None = None,
        progress: bool | Reporter = True,
        **choices: Any,
    ) -> Summary:
        """Run the stage in this process.

        Args:
            overrides: ``key=value``, ``group=option`` and ``~key``, as on the command line.
            config_name: YAML file without its suffix.
            config_dir: folder with your YAML files and plugins; it is added to ``sys.path``.
            progress: True for bars, False for none, or a reporter of your own.
            choices: keys as names, with ``__`` for a dot (``projection__dim=512``), a mapping for a section
                (``projection={"dim": 512}``), or the option of a group (``estimator="trak"``); they come after ``overrides``.

        Returns:
            The summary that the command prints with ``--json``.

        Raises:
            TrakError: :class:`~trak_cli.errors.ConfigError`, ``StoreError``, ``InputError`` or ``MachineError``, with every
                problem found. The function never ends the process, and Ctrl-C raises KeyboardInterrupt; finished work is
                stored then, and the same call resumes.
        """
        values = {key.replace("__", "."): value for key, value in choices.items()}
        folder = None if config_dir is None else Path(config_dir)
        with report_user_errors("your code"):
            loaded = load(self.name, config_name, folder, overrides, values)
            function = self._function
            with with_gradients(), random_states_kept():
                summary: Summary = function(loaded, reporter_of(progress))
        show_summaries(type(summary))
        return summary

    def with_objects(self, values: Mapping[str, Any], objects: Mapping[str, Make], progress: bool | Reporter) -> Summary:
        """Run the stage with values by dotted key, and with objects in the place of the plugins that ``node_of`` names."""
        with holding(objects):
            return self(progress=progress, **values)

    @property
    def _function(self) -> Any:
        function = self.name.replace("-", "_")
        return getattr(importlib.import_module(f"trak_cli.stages.{function}"), function)

    def __repr__(self) -> str:
        return f"trak.{self.name.replace('-', '_')}"


run: Stage[PipelineSummary] = Stage("run", "Run featurize, finalize and score, one after the other.")
featurize: Stage[FeaturizeSummary] = Stage(
    "featurize", "Compute and store the features of the training set and of every target split."
)
finalize: Stage[FinalizeSummary] = Stage("finalize", "Sum the Gram matrix of the training features and factorise it.")
score: Stage[ScoreSummary] = Stage("score", "Compute and store the scores of every training sample for every target.")
compress: Stage[CompressSummary] = Stage(
    "compress", "Store a compressed copy of the training features, from which `trak ask --candidates` chooses rows."
)
refine: Stage[RefineSummary] = Stage("refine", "Compute scores of chosen targets in the space of all parameters.")
eval_lds: Stage[EvalSummary] = Stage("eval-lds", "Measure how well scores predict models retrained on random subsets (LDS).")
tune: Stage[TuneSummary] = Stage("tune", "Search the estimator with a ground truth.")
train: Stage[TrainSummary] = Stage("train", "Train checkpoints with the trainer plugin.")
retrain: Stage[RetrainSummary] = Stage("retrain", "Train models on random subsets, the ground truth of the LDS.")
unroll: Stage[UnrollSummary] = Stage("unroll", "Compute exact scores of chosen targets for one training run.")
doctor: Stage[DoctorSummary] = Stage("doctor", "Check model, task, data and checkpoints, and estimate time, disk and memory.")
