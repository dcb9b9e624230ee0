"""The checks of `trak doctor`: one function for each property that a run relies on, on a few samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trak_cli.batches import one_sample
from trak_cli.errors import ConfigError, InputError, MachineError
from trak_cli.gradients.checks.compare import cosine, difference, gradient_inside, gradient_of
from trak_cli.gradients.checks.outputs import check_reach, check_terms
from trak_cli.gradients.checks.tolerances import REPEATED_OUTPUT, TOLERANCES, Tolerance, gradient_tolerance
from trak_cli.gradients.contract import Engine
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.projection.contract import Projector
from trak_cli.stages.featurizing.setup import FeatureSetup
from trak_cli.stages.inputs.split import SampleBatch
from trak_cli.stages.inputs.validation import validate_batch
from trak_cli.store.dtypes import encode_rows
from trak_cli.user_errors import error_summary

#: Samples that are checked, evenly spaced in the training set.
SAMPLES = 5


@dataclass(frozen=True)
class Check:
    """One property: whether it holds, what was found, what was expected, and what to do if it does not hold."""

    name: str
    held: bool
    found: str
    expected: str
    remedy: str


def tolerance(setup: FeatureSetup) -> Tolerance:
    """The tolerance of the coarsest dtype in which gradients are computed."""
    tolerances = [gradient_tolerance(setup.function, tensor.dtype) for tensor in setup.selected.values()]
    return max(tolerances, key=lambda entry: entry.sample, default=TOLERANCES[torch.float32])


def attempt(name: str, check: Callable[[], Check]) -> Check:
    """The result of a check; a failed check if the model, the data or the machine raised an error."""
    try:
        return check()
    except (InputError, ConfigError, MachineError) as error:
        problem = error.problems[0]
        return Check(name, False, f"{problem.where}: {problem.found}", problem.expected, problem.remedy)
    except Exception as error:  # the user's model, task and data run here, and may raise anything
        remedy = "check that model, task and collate accept batches of one sample and of several, in evaluation mode"
        return Check(name, False, error_summary(error), "no exception", remedy)


def accepted(setup: FeatureSetup, samples: SampleBatch) -> Check:
    """The task accepts the samples."""
    validate_batch(setup.task, setup.model, samples.batch, samples.split.name, samples.rows)
    return Check("samples", True, f"{len(samples.samples)} that the task accepts", "all of them", "")


def reached(setup: FeatureSetup, samples: SampleBatch) -> Check:
    """The output depends on the selected parameters."""
    check_reach(setup.model, setup.function, samples.split.batch(samples.samples[:1]), setup.selected)
    return Check("gradients", True, f"reach some of {len(setup.selected)} parameter tensors", "some", "")


def finite(setup: FeatureSetup, samples: SampleBatch) -> Check:
    """Outputs, out-to-loss gradients and gradients (by plain autograd) contain no NaN and no infinity."""
    loop = make_engine("loop", setup.model, setup.function, setup.selected)
    not_finite: dict[str, None] = {}
    outputs = []
    for single in samples.singles():
        result = loop.per_sample(single)
        outputs.append(float(result.outputs))
        values = {"the output": result.outputs, "the out-to-loss gradient": result.out_to_loss}
        gradients = gradient_of(setup.selected, result.blocks, 0)
        values |= {f"the gradient of {name}": gradient for name, gradient in gradients.items()}
        not_finite |= {what: None for what, value in values.items() if not bool(value.isfinite().all())}
    found = f"outputs from {min(outputs):.3g} to {max(outputs):.3g}"
    return Check(
        "finite numbers",
        not not_finite,
        f"NaN or infinity in {', '.join(list(not_finite)[:3])}" if not_finite else found,
        "finite outputs and gradients",
        "check these samples and the checkpoint; float16 models overflow where bfloat16 or float32 do not",
    )


def repeated(setup: FeatureSetup, samples: SampleBatch) -> Check:
    """The same batch gives the same outputs twice."""
    first, second = (_outputs(setup, samples).nan_to_num(0.0, 0.0, 0.0) for _ in range(2))  # `finite` reports NaN
    largest = float((first - second).abs().max() / first.abs().max().clamp(min=1e-30))
    return Check(
        "the same output twice",
        largest <= REPEATED_OUTPUT,
        f"outputs differ by {largest:.1e} of the largest",
        f"at most {REPEATED_OUTPUT:.0e}",
        "make dropout and other random layers follow self.training",
    )


def alone_and_together(setup: FeatureSetup, samples: SampleBatch) -> Check:
    """The gradient of a sample does not depend on the other samples of its batch, by plain autograd.

    Single samples are collated alone, so that an effect of padding shows too.
    """
    loop = make_engine("loop", setup.model, setup.function, setup.selected)
    cosines = []
    for position, single in enumerate(samples.singles()):
        alone = gradient_of(setup.selected, loop.per_sample(single).blocks, 0)
        inside = gradient_inside(setup.model, setup.function, setup.selected, samples.batch, position)
        cosines.append(cosine(alone, inside))
    least = tolerance(setup).cosine
    return Check(
        "alone = in a batch",
        min(cosines) >= least,
        f"smallest cosine of gradients {min(cosines):.6f}",
        f"at least {least:g}",
        "look for BatchNorm that uses batch statistics, and for padding without a mask in model, task or collate",
    )


def summed(setup: FeatureSetup, samples: SampleBatch) -> Check:
    """The per-token terms add up to the output."""
    check_terms(setup.model, setup.task, samples.batch)
    return Check("terms", True, "add up to the output", "terms whose sum is the output", "")


def engine_and_loop(setup: FeatureSetup, samples: SampleBatch, engine: Engine) -> Check:
    """The engine gives each sample the gradient that plain autograd gives it alone."""
    loop = make_engine("loop", setup.model, setup.function, setup.selected)
    differences = []
    for position in range(len(samples.samples)):
        gradient = gradient_of(setup.selected, engine.per_sample(samples.batch).blocks, position)
        expected = gradient_of(setup.selected, loop.per_sample(one_sample(samples.batch, position)).blocks, 0)
        differences.append(difference(gradient, expected))
    allowed = tolerance(setup).sample
    return Check(
        f"engine {engine.name} = loop",
        max(differences) <= allowed,
        f"largest relative difference {max(differences):.1e}",
        f"at most {allowed:.0e}",
        "run with gradients=loop, and report the model whose gradients the engine gets wrong",
    )


def features_fit(setup: FeatureSetup, samples: SampleBatch, engine: Engine, projector: Projector, dtype: str) -> Check:
    """The features of the samples can be stored in ``dtype``."""
    projected = projector.project(engine.per_sample(samples.batch).blocks) / setup.parameters**0.5
    features = projected.detach().to("cpu", torch.float32).numpy()
    encode_rows(features, dtype)  # refuses values that are not finite
    sizes = np.abs(features[features != 0])
    found = f"sizes from {sizes.min():.1e} to {sizes.max():.1e}" if sizes.size else "all features are zero"
    remedy = "check parameters.include"
    return Check(f"features fit {dtype}", bool(sizes.size), found, "no overflow, not all zero", remedy)


def _outputs(setup: FeatureSetup, samples: SampleBatch) -> Tensor:
    with torch.no_grad():
        return setup.function.output(setup.model, samples.batch).double()
