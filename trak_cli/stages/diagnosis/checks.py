"""The checks of `trak doctor`: one function for each property that a run relies on, made on a handful of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trak_cli.batches import one_sample
from trak_cli.errors import ConfigError, InputError, MachineError
from trak_cli.gradients.checks.compare import cosine, difference, gradient_inside, gradient_of
from trak_cli.gradients.contract import Engine, ModelOutput
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.transforms.autocast import AUTOCAST
from trak_cli.projection.contract import Projector
from trak_cli.stages.featurizing.setup import Recipe
from trak_cli.stages.inputs.split import Split
from trak_cli.store.dtypes import encode_rows
from trak_cli.user_errors import error_summary

#: Samples that are looked at, spread over the training set.
SAMPLES = 5

#: Largest allowed ‖g_engine − g_loop‖ / ‖g_loop‖ of a sample, by the coarsest dtype of the parameters.
ENGINE_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}

#: Smallest allowed cosine between a sample's gradient alone and in a batch, by the coarsest dtype of the parameters.
LEAST_COSINE = {torch.float64: 0.999999, torch.float32: 0.99999, torch.float16: 0.999, torch.bfloat16: 0.99}


@dataclass(frozen=True)
class Check:
    """One property: whether it holds, what was found, what was expected, and what to do where it does not hold."""

    name: str
    held: bool
    found: str
    expected: str
    remedy: str


@dataclass(frozen=True)
class Patient:
    """A model under one checkpoint and a few samples of its training set.

    Attributes:
        rows: which samples of the split they are.
        samples: as the dataset gives them.
        batch: all of them together, on the device.
    """

    recipe: Recipe
    split: Split
    rows: list[int]
    samples: list[Any]
    batch: Any

    @property
    def model(self) -> nn.Module:
        return self.recipe.parts.model

    @property
    def function(self) -> ModelOutput:
        return self.recipe.function

    @property
    def selected(self) -> Mapping[str, Tensor]:
        """Canonical name -> parameter, of those that are attributed."""
        return self.recipe.selected

    @property
    def dtype(self) -> torch.dtype:
        """The coarsest floating dtype among the selected parameters, or that of the autocast."""
        if (autocast := self.recipe.config.gradients.autocast) is not None:
            return AUTOCAST[autocast]
        known = [one.dtype for one in self.selected.values() if one.dtype in ENGINE_TOLERANCE]
        return max(known, key=ENGINE_TOLERANCE.__getitem__, default=torch.float32)


def attempt(name: str, work: Callable[[], Check]) -> Check:
    """The check, or its failure where the model, the data or the machine refused before it could be made."""
    try:
        return work()
    except (InputError, ConfigError, MachineError) as error:
        problem = error.problems[0]
        return Check(name, False, f"{problem.where}: {problem.found}", problem.expected, problem.remedy)
    except Exception as error:  # the user's model, task and data run here; whatever they raise is what was looked for
        where = "look at model, task and collate for batches of one sample, of several, and in evaluation mode"
        return Check(name, False, error_summary(error), "no exception", where)


def repeated(patient: Patient) -> Check:
    """The same batch twice gives the same outputs, bit for bit or nearly so."""
    first, second = (_outputs(patient) for _ in range(2))
    first, second = (outputs.nan_to_num(0.0, 0.0, 0.0) for outputs in (first, second))  # those are another check's business
    apart = float((first - second).abs().max() / first.abs().max().clamp(min=1e-30))
    return Check(
        "the same output twice",
        apart <= 1e-5,
        f"outputs differ by {apart:.1e} of the largest",
        "at most 1e-05",
        "let dropout and other random layers follow self.training",
    )


def finite(patient: Patient) -> Check:
    """Outputs, out-to-loss gradients and gradients (by plain autograd) have no NaN and no infinity."""
    oracle = make_engine("loop", patient.model, patient.function, patient.selected)
    bad: dict[str, None] = {}
    outputs = []
    for sample in patient.samples:
        result = oracle.per_sample(patient.split.batch([sample]))
        outputs.append(float(result.outputs))
        named = {"the output": result.outputs, "the out-to-loss gradient": result.out_to_loss}
        named |= {f"the gradient of {name}": one for name, one in gradient_of(patient.selected, result.blocks, 0).items()}
        bad |= {what: None for what, values in named.items() if not bool(values.isfinite().all())}
    return Check(
        "finite numbers",
        not bad,
        f"NaN or infinity in {', '.join(list(bad)[:3])}" if bad else f"outputs from {min(outputs):.3g} to {max(outputs):.3g}",
        "finite outputs and gradients",
        "look at these samples and at the checkpoint; float16 models overflow where bfloat16 or float32 do not",
    )


def alone_and_together(patient: Patient) -> Check:
    """A sample's gradient does not depend on what else is in its batch: plain autograd, alone and inside the batch.

    Samples are collated alone, so that padding of another length shows too.
    """
    selected = patient.selected
    oracle = make_engine("loop", patient.model, patient.function, selected)
    cosines = []
    for position, sample in enumerate(patient.samples):
        alone = gradient_of(selected, oracle.per_sample(patient.split.batch([sample])).blocks, 0)
        cosines.append(cosine(alone, gradient_inside(patient.model, patient.function, selected, patient.batch, position)))
    least = LEAST_COSINE[patient.dtype]
    return Check(
        "alone = in a batch",
        min(cosines) >= least,
        f"smallest cosine of gradients {min(cosines):.6f}",
        f"at least {least:g}",
        "look for BatchNorm that uses batch statistics, and for padding without a mask in model, task or collate",
    )


def engine_and_loop(patient: Patient, engine: Engine) -> Check:
    """The engine gives every sample the gradient that plain autograd gives it alone."""
    selected = patient.selected
    oracle = make_engine("loop", patient.model, patient.function, selected)
    apart = []
    for position in range(len(patient.samples)):
        found = gradient_of(selected, engine.per_sample(patient.batch).blocks, position)
        expected = gradient_of(selected, oracle.per_sample(one_sample(patient.batch, position)).blocks, 0)
        apart.append(difference(found, expected))
    limit = ENGINE_TOLERANCE[patient.dtype]
    return Check(
        f"engine {engine.name} = loop",
        max(apart) <= limit,
        f"largest relative difference {max(apart):.1e}",
        f"at most {limit:.0e}",
        "run with gradients=loop, and report the model that the engine got wrong",
    )


def features_fit(patient: Patient, engine: Engine, projector: Projector, dtype: str) -> Check:
    """The features of these samples fit the dtype in which they are to be stored."""
    projected = projector.project(engine.per_sample(patient.batch).blocks) / patient.recipe.parameters**0.5
    features = projected.detach().to("cpu", torch.float32).numpy()
    encode_rows(features, dtype)  # refuses values that are not finite
    sizes = np.abs(features[features != 0])
    spread = f"sizes from {sizes.min():.1e} to {sizes.max():.1e}" if sizes.size else "all features zero"
    return Check(f"features fit {dtype}", bool(sizes.size), spread, "no overflow, not all zero", "look at parameters.include")


def _outputs(patient: Patient) -> Tensor:
    with torch.no_grad():
        return patient.function.output(patient.model, patient.batch).double()
