"""The checks of `trak doctor`: one function for each property that a run relies on, on a few samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trak_cli.batches import batch_size, one_sample
from trak_cli.errors import ConfigError, InputError, MachineError, Problem
from trak_cli.gradients.checks.compare import difference, gradient_of
from trak_cli.gradients.checks.tolerances import gradient_tolerance
from trak_cli.gradients.contract import Engine
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.plugins.text.start_token import doubled_start
from trak_cli.projection.contract import Projector
from trak_cli.stages.featurizing.model_checks import ModelCheck
from trak_cli.stages.featurizing.setup import FeatureSetup
from trak_cli.stages.inputs.probes import Probes
from trak_cli.store.dtypes import encode_rows
from trak_cli.user_errors import report_user_errors


@dataclass(frozen=True)
class Check:
    """One property: whether it holds, what was found, what was expected, and what to do if it does not hold."""

    name: str
    held: bool
    found: str
    expected: str
    remedy: str

    @classmethod
    def failed(cls, name: str, problem: Problem) -> Check:
        """A property that does not hold."""
        return cls(name, False, f"{problem.where}: {problem.found}", problem.expected, problem.remedy)


def attempt(name: str, check: Callable[[], Check]) -> Check:
    """The result of a check; a failed check if the model, the data or the machine raised an error."""
    try:
        with report_user_errors("model", library=True):
            return check()
    except (InputError, ConfigError, MachineError) as error:
        return Check.failed(name, error.problems[0])


def passed(check: ModelCheck) -> Check:
    """The result of a check of `featurize` that holds.

    Raises:
        InputError: it does not hold.
    """
    return Check(check.name, True, check.run(), check.expected, "")


def has_tokens(probes: Probes) -> bool:
    """Whether the samples of a split are mappings with token ids."""
    return any(isinstance(sample, Mapping) and "input_ids" in sample for sample in probes.read.values())


def single_start(setup: FeatureSetup, probes: Sequence[Probes]) -> Check:
    """No text begins with the start token twice."""
    for split_probes in probes:
        for row, sample in split_probes.read.items():
            where = f"sample {row} of {split_probes.split.name}"
            problem = doubled_start(split_probes.split.dataset, setup.model, sample, where)
            if problem is not None:
                return Check.failed("start token", problem)
    return Check("start token", True, "not twice at the start of a text", "once or never", "")


def engine_and_loop(setup: FeatureSetup, probes: Probes, engine: Engine) -> Check:
    """The engine gives each sample the gradient that plain autograd gives it alone."""
    loop = make_engine("loop", setup.model, setup.function, setup.selected)
    differences = []
    for batch in probes.batches(setup.gradients.microbatch):
        for position in range(batch_size(batch)):
            gradient = gradient_of(setup.selected, engine.per_sample(batch).blocks, position)
            expected = gradient_of(setup.selected, loop.per_sample(one_sample(batch, position)).blocks, 0)
            differences.append(difference(gradient, expected))
    allowed = max(gradient_tolerance(setup.function, tensor.dtype).sample for tensor in setup.selected.values())
    return Check(
        f"engine {engine.name} = loop",
        max(differences) <= allowed,
        f"largest relative difference {max(differences):.1e}",
        f"at most {allowed:.0e}",
        "run with gradients=loop, and report the model whose gradients the engine gets wrong",
    )


def features_fit(setup: FeatureSetup, probes: Probes, engine: Engine, projector: Projector, dtype: str) -> Check:
    """The features of the samples can be stored in ``dtype``."""
    batches = probes.batches(setup.gradients.microbatch)
    projected = torch.cat([projector.project(engine.per_sample(batch).blocks).detach() for batch in batches])
    features = (projected / setup.parameters**0.5).to("cpu", torch.float32).numpy()
    encode_rows(features, dtype)  # refuses values that are not finite
    sizes = np.abs(features[features != 0])
    found = f"sizes from {sizes.min():.1e} to {sizes.max():.1e}" if sizes.size else "all features are zero"
    remedy = "check parameters.include"
    return Check(f"features fit {dtype}", bool(sizes.size), found, "no overflow, not all zero", remedy)
