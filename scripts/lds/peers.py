"""Attributions by other libraries from PyPI (extra [peers]), from the same checkpoints.

traker       the original implementation of TRAK; its defaults (ridge 0, float32 on CPU), k = 512.
kronfluence  EK-FAC influence with three dampings: its default, its heuristic and 1e-3. The benchmark reports the best
             of the three by the ground truth, which is in its favour.
dattri       its TRAK, defaults, k = 512.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from setting import Setting
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader

from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.stages.inputs.plugins import Components, make_components, make_model
from trak_cli.tasks import Classification, Regression

Array = np.ndarray[Any, Any]
K = 512
BATCH = 200
CPU = torch.device("cpu")
DAMPINGS = {"default": 1e-8, "heuristic": None, "1e-3": 1e-3}


def traker(setting: Setting, counts: Sequence[int]) -> tuple[dict[str, Array], float]:
    """Scores (t, n) by "COUNT", and the CPU seconds for one checkpoint."""
    from trak import TRAKer
    from trak.projectors import BasicProjector, ProjectionType

    parts = make_components(setting.loaded.config, CPU)
    model, train, targets = make_model(setting.loaded.config).eval(), _loader(parts, "train"), _loader(parts, "test")
    names = setting.checkpoints[: max(counts)]
    task = "image_classification" if isinstance(parts.task, Classification) else _original_task(parts)
    p = sum(one.numel() for one in model.parameters())
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder, _quiet():
        projector = BasicProjector(p, K, 0, ProjectionType.normal, torch.device("cpu"), dtype=torch.float32)
        tool = TRAKer(
            model=model,
            task=task,
            train_set_size=len(train.dataset),  # type: ignore[arg-type]
            save_dir=folder,
            device="cpu",
            projector=projector,
            proj_dim=K,
            use_half_precision=False,
            logging_level=logging.ERROR,
        )
        for number, name in enumerate(names):
            tool.load_checkpoint(_weights(setting, name), model_id=number)
            for batch in train:
                tool.featurize(batch=batch, num_samples=len(batch[0]))
        tool.finalize_features()
        for number, name in enumerate(names):
            tool.start_scoring_checkpoint("test", _weights(setting, name), number, len(targets.dataset))  # type: ignore[arg-type]
            for batch in targets:
                tool.score(batch=batch, num_samples=len(batch[0]))
        results = {str(m): np.array(tool.finalize_scores("test", model_ids=list(range(m)))).T for m in counts}
    return results, (time.process_time() - start) / len(names)


def kronfluence(setting: Setting, counts: Sequence[int]) -> tuple[dict[str, Array], float]:
    """Scores (t, n) by "DAMPING-COUNT", and the CPU seconds for one checkpoint with one damping."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments

    parts = make_components(setting.loaded.config, CPU)
    task = _kronfluence_task(parts)
    names = setting.checkpoints[: max(counts)]
    sums: dict[str, Array] = {}
    results: dict[str, Array] = {}
    seconds = 0.0
    for number, name in enumerate(names, start=1):
        start = time.process_time()
        model = make_model(setting.loaded.config)
        apply(model, load(setting.checkpoint_file(name)), setting.checkpoint_file(name))
        model = prepare_model(model.eval(), task)
        with tempfile.TemporaryDirectory() as folder, _quiet():
            tool = Analyzer("it", model, task, cpu=True, output_dir=folder, disable_tqdm=True, disable_model_save=True)
            arguments = FactorArguments(strategy="ekfac")
            tool.fit_all_factors("ekfac", parts.splits["train"], 100, arguments, overwrite_output_dir=True)
            for label, damping in DAMPINGS.items():
                tool.compute_pairwise_scores(
                    label,
                    "ekfac",
                    parts.splits["test"],
                    parts.splits["train"],
                    per_device_query_batch_size=100,
                    per_device_train_batch_size=100,
                    score_args=ScoreArguments(damping_factor=damping),
                    overwrite_output_dir=True,
                )
                if label == "default":
                    seconds += time.process_time() - start
                # Influence is on the loss, which falls when the output rises.
                one = -tool.load_pairwise_scores(label)["all_modules"].numpy().astype(np.float64)
                sums[label] = sums.get(label, 0.0) + one
        for label, total in sums.items():
            if number in counts:
                results[f"{label}-{number}"] = total / number
    return results, seconds / len(names)


def dattri(setting: Setting, counts: Sequence[int]) -> tuple[dict[str, Array], float]:
    """Scores (t, n) by "COUNT", and the CPU seconds for one checkpoint. Classification only."""
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.task import AttributionTask

    parts = make_components(setting.loaded.config, CPU)
    model = make_model(setting.loaded.config).eval()

    def margin(params: dict[str, Tensor], pair: tuple[Tensor, Tensor]) -> Tensor:
        x, y = pair
        return parts.task.output(_bound(model, params), (x[None], y[None]))[0]

    def right(params: dict[str, Tensor], pair: tuple[Tensor, Tensor]) -> Tensor:
        return torch.sigmoid(margin(params, pair))

    results = {}
    start = time.process_time()
    for m in counts:
        checkpoints = [_weights(setting, name) for name in setting.checkpoints[:m]]
        with _quiet():
            task = AttributionTask(loss_func=margin, model=model, checkpoints=checkpoints)
            tool = TRAKAttributor(
                task=task, correct_probability_func=right, device="cpu", projector_kwargs={"proj_dim": K, "device": "cpu"}
            )
            tool.cache(_loader(parts, "train"))
            with torch.no_grad():
                results[str(m)] = tool.attribute(_loader(parts, "test")).T.numpy().astype(np.float64)
    return results, (time.process_time() - start) / sum(counts)


Peer = Callable[[Setting, Sequence[int]], tuple[dict[str, Array], float]]

PEERS: dict[str, tuple[str, Peer]] = {
    "traker": ("trak", traker),
    "kronfluence EK-FAC": ("kronfluence", kronfluence),
    "dattri TRAK": ("dattri", dattri),
}


def available() -> dict[str, Peer]:
    return {name: run for name, (module, run) in PEERS.items() if importlib.util.find_spec(module)}


def takes(peer: str, setting: Setting) -> bool:
    """Whether a library supports the task of a setting."""
    classification = isinstance(make_components(setting.loaded.config, CPU).task, Classification)
    return classification or peer != "dattri TRAK"


def _loader(parts: Components, split: str) -> DataLoader[Any]:
    return DataLoader(parts.splits[split], batch_size=BATCH, shuffle=False)


def _weights(setting: Setting, name: str) -> dict[str, Tensor]:
    return dict(load(setting.checkpoint_file(name)))


def _bound(model: nn.Module, *weights: Any) -> Callable[..., Any]:
    return lambda *args: functional_call(model, weights if len(weights) > 1 else weights[0], args)


def _original_task(parts: Components) -> Any:
    from trak.modelout_functions import AbstractModelOutput

    class Output(AbstractModelOutput):  # type: ignore[misc]
        """Our task in the original library's terms."""

        def __init__(self) -> None:
            super().__init__()

        @staticmethod
        def get_output(model: Any, weights: Any, buffers: Any, x: Tensor, y: Tensor) -> Tensor:
            return parts.task.output(_bound(model, weights, buffers), (x[None], y[None]))[0]  # type: ignore[arg-type]

        def get_out_to_loss_grad(self, model: Any, weights: Any, buffers: Any, batch: Any) -> Tensor:
            bound: Any = _bound(model, weights, buffers)
            return parts.task.out_to_loss_grad(bound, batch, parts.task.output(bound, batch)).detach()[:, None]

    return Output()


def _kronfluence_task(parts: Components) -> Any:
    from kronfluence.task import Task

    class Measured(Task):  # type: ignore[misc]
        """Our task in kronfluence's terms; the Fisher matrix by labels drawn from the model."""

        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            x, y = batch
            out = model(x)
            if isinstance(parts.task, Regression):
                out = out.reshape(len(x))
                target = torch.normal(out.detach(), 1.0) if sample else y.reshape(len(x))
                return 0.5 * ((out - target) ** 2).sum()
            if not isinstance(parts.task, Classification):  # the next token
                out, y = out[:, :-1].flatten(0, 1), x[:, 1:].flatten()
            if sample:
                y = torch.multinomial(out.detach().softmax(-1), 1)[:, 0]
            return nn.functional.cross_entropy(out, y, reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return parts.task.output(model, batch).sum()

    return Measured()


@contextlib.contextmanager
def _quiet() -> Any:
    """Hide the progress bars and log lines of the libraries."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
