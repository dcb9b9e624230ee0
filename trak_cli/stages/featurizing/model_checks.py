"""Checks of the model on a few samples, before the first feature; `featurize` and `doctor` share them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from torch import Tensor, nn

from trak_cli.config.compose.plugin_import import imported_again
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.gradients.checks.compare import gradient_of, worst_output
from trak_cli.gradients.checks.finite import check_finite
from trak_cli.gradients.checks.history import History, Samples, Subject, check_history
from trak_cli.gradients.checks.independence import check_independence, check_repeated
from trak_cli.gradients.checks.observation import observed_outputs
from trak_cli.gradients.checks.outputs import check_across_checkpoints, check_terms, reached_parameters, unreached
from trak_cli.gradients.checks.tolerances import output_tolerance
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.gradients.tuning.memory import GradientWork, activation_bytes
from trak_cli.plurals import counted
from trak_cli.stages.featurizing.setup import FeatureSetup
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.probes import Probes
from trak_cli.stages.inputs.validation import validate_batch
from trak_cli.types import listed
from trak_cli.user_errors import report_user_errors


@dataclass(frozen=True)
class ModelCheck:
    """One property that a run relies on.

    Attributes:
        name: the property, as `doctor` prints it.
        expected: what holds if the property holds.
        run: checks it, and returns what was found; raises InputError if the property does not hold.
    """

    name: str
    expected: str
    run: Callable[[], str]


def check_model(setup: FeatureSetup, probes: Sequence[Probes], log: Callable[[str], None]) -> None:
    """Check the model, with the weights it holds, on probes of every split; the training set comes first.

    Raises:
        InputError: the first property that does not hold.
    """
    for check in model_checks(setup, probes, log):
        check.run()


def model_checks(setup: FeatureSetup, probes: Sequence[Probes], log: Callable[[str], None]) -> list[ModelCheck]:
    """The checks in the order in which to run them; each relies on those before it.

    Args:
        probes: of each split; the training set comes first.
        log: gets what is worth knowing although it is no reason to refuse the model.
    """
    checks = [ModelCheck("samples", "all of them", partial(_accepted, setup, probes))]
    history = lru_cache(maxsize=1)(partial(_history, setup, probes[0]))
    checks.append(ModelCheck("nothing kept between calls", "the outputs of a new model", partial(_forgets, history)))
    name, expected = "nothing kept between checkpoints", "the outputs of modules that are imported again"
    checks.append(ModelCheck(name, expected, partial(_forgets_checkpoints, setup, probes[0])))
    if setup.uses_gradients:
        checks.append(ModelCheck("gradients", "a path to the parameters", partial(_reached, setup, probes[0], history, log)))
    checks.append(ModelCheck("finite numbers", "finite outputs and gradients", partial(_finite, setup, probes)))
    checks.append(ModelCheck("alone = in a batch", "equal outputs", partial(_independent, setup, probes)))
    if setup.curvature == "terms":
        checks.append(ModelCheck("terms", "terms whose sum is the output", partial(_summed, setup, probes[0])))
    return checks


def _accepted(setup: FeatureSetup, probes: Sequence[Probes]) -> str:
    """The task accepts all samples that were read, each alone, and the probes together.

    Raises:
        InputError: names the first refused sample of each split.
    """
    problems: list[Problem] = []
    cause: BaseException | None = None
    for split_probes in probes:
        try:
            for row, sample in split_probes.read.items():
                validate_batch(setup.task, setup.model, split_probes.split.batch([sample], [row]), split_probes.split, [row])
            if not _always_alone(setup, split_probes):
                validate_batch(setup.task, setup.model, split_probes.together, split_probes.split, split_probes.rows)
        except InputError as error:
            problems += error.problems
            cause = cause or error.__cause__
    if problems:
        raise InputError(problems) from cause
    return f"{sum(len(split_probes.read) for split_probes in probes)} that the task accepts"


def _history(setup: FeatureSetup, probes: Probes) -> History:
    """The model in use is compared with a new one, which replaces it."""
    models = setup.components.models

    def parameters(model: nn.Module) -> Mapping[str, Tensor]:
        return select(model, setup.patterns.include, setup.patterns.exclude) if setup.uses_gradients else {}

    subject = Subject(lambda: models.current, models.reload, models.restore_buffers, setup.function, parameters)
    alone = _always_alone(setup, probes)
    probes = probes if alone else _affordable(setup, probes)
    return check_history(subject, Samples(None if alone else probes.together, probes.singles, probes.names))


def _forgets(history: Callable[[], History]) -> str:
    """The output for a sample does not depend on earlier calls."""
    restored = history().restored
    return f"the same; before each call, {listed(restored)} is restored" if restored else "the same"


def _forgets_checkpoints(setup: FeatureSetup, probes: Probes) -> str:
    """The outputs of a second checkpoint stay the same if the modules of the user are imported again.

    A new model does not have the attributes of the previous one, but shares the values that a module or class keeps.
    """
    models = setup.components.models
    first, *others = models.checkpoints
    others = [other for other in others if other.sha256 != first.sha256]
    if not others:
        return "a single checkpoint"

    def outputs(checkpoint: Checkpoint) -> Tensor:
        models.load(checkpoint)
        return observed_outputs(models.current, setup.function, probes.singles)

    def alone(checkpoint: Checkpoint) -> Tensor:
        with imported_again(), report_user_errors("the modules imported again", library=True):
            return outputs(checkpoint)

    try:
        # The first checkpoint shows whether the modules compute the same when they are imported again: the task, the data
        # and collate still use classes of the modules from before.
        control, expected, second = outputs(first), alone(first), alone(others[0])
        difference = worst_output(control, expected)[1]
    except (ConfigError, InputError) as error:
        models.load(first)
        return f"not checked, because the modules cannot be used when imported again: {error.problems[0].found}"
    limit = output_tolerance(models.current, setup.function)
    if difference > limit:
        models.load(first)
        return "not checked, because the modules compute something else when they are imported again"
    try:
        check_across_checkpoints(outputs(others[0]), second, limit, [*probes.names, others[0].name])
    finally:
        models.load(first)
    return "the same"


def _reached(setup: FeatureSetup, probes: Probes, history: Callable[[], History], log: Callable[[str], None]) -> str:
    """The output depends on the selected parameters."""
    reached, selected = history().reached, list(setup.selected)
    unused = [name for name in selected if name not in reached]
    if len(unused) == len(selected):
        raise unreached(sorted(_reached_in_training(setup, probes)))
    if unused:
        log(f"the output does not depend on {listed(unused)} in evaluation mode; their gradients are zero")
    return f"reach {len(selected) - len(unused)} of {counted(len(selected), 'parameter tensor')}"


def _finite(setup: FeatureSetup, probes: Sequence[Probes]) -> str:
    """Outputs, out-to-loss gradients and gradients (by plain autograd) contain no NaN and no infinity."""
    loop = make_engine("loop", setup.model, setup.function, setup.selected)
    outputs = []
    for of_split in probes:
        for name, single in zip(of_split.names, of_split.singles, strict=True):
            result = loop.per_sample(single)
            check_finite(result.outputs, [name], "output")
            check_finite(result.out_to_loss, [name], "out-to-loss gradient")
            for parameter, gradient in gradient_of(setup.selected, result.blocks, 0).items():
                check_finite(gradient.reshape(1, -1), [name], f"gradient of {parameter}")
            outputs.append(float(result.outputs))
    return f"outputs from {min(outputs):.3g} to {max(outputs):.3g}"


def _independent(setup: FeatureSetup, probes: Sequence[Probes]) -> str:
    """The output for a sample depends neither on the other samples of its batch nor on their order."""
    differences = [0.0]
    for split_probes in probes:
        if _always_alone(setup, split_probes):
            for single in split_probes.singles:
                check_repeated(setup.model, setup.function, single)
        else:
            differences.append(check_independence(setup.model, setup.function, _affordable(setup, split_probes).trial))
    return f"outputs differ by {max(differences):.1e} at most"


def _always_alone(setup: FeatureSetup, probes: Probes) -> bool:
    """Whether no batch has two samples: because of ``gradients.microbatch=1``, and because collate accepts no such batch."""
    if setup.gradients.microbatch != 1:
        return False
    try:
        return probes.together is None
    except InputError:
        return True


def _affordable(setup: FeatureSetup, probes: Probes) -> Probes:
    """As many of the probes as fit into ``gradients.memory_mb`` in one batch, two at least."""
    largest = probes.singles[max(range(len(probes.sizes)), key=probes.sizes.__getitem__)]
    saved = activation_bytes(GradientWork(setup.model, setup.function, largest, setup.selected))
    return probes.first(setup.gradients.memory_mb * 2**20 // max(1, 2 * saved))


def _reached_in_training(setup: FeatureSetup, probes: Probes) -> set[str]:
    """The selected parameters that the output depends on in training mode; none if the model fails there."""
    model = setup.components.models.in_training_mode()
    selected = select(model, setup.patterns.include, setup.patterns.exclude)
    try:
        return reached_parameters(model, setup.function, probes.together, selected)
    except Exception:  # this call only finds the reason of an error that is reported anyway
        return set()
    finally:
        del model, selected
        setup.components.models.reload()


def _summed(setup: FeatureSetup, probes: Probes) -> str:
    """The per-token terms add up to the output."""
    for batch in probes.batches(setup.gradients.microbatch):
        check_terms(setup.model, setup.task, batch)
    return "add up to the output"
