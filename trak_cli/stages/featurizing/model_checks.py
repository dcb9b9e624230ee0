"""Checks of the model on a few samples, before the first feature."""

from __future__ import annotations

from trak_cli.gradients.checks.outputs import check_independence, check_reach, check_terms
from trak_cli.stages.featurizing.setup import FeatureSetup
from trak_cli.stages.inputs.split import Split
from trak_cli.stages.inputs.validation import validate_batch
from trak_cli.types import Rows

#: Samples whose outputs are compared alone and in a batch.
INDEPENDENCE_SAMPLES = 4


def check_model(setup: FeatureSetup, train: Split) -> None:
    """Check the model, with the weights it holds, on the first training samples.

    Raises:
        InputError: the task refuses a sample, the output for a sample depends on the other samples of its batch, per-token
            terms do not add up to the output, or the output does not depend on the selected parameters.
    """
    first = train.take(Rows(0, min(INDEPENDENCE_SAMPLES, train.rows)))
    validate_batch(setup.task, setup.model, first.batch, train.name, first.rows)
    singles = [train.batch([sample]) for sample in first.samples]
    if len(singles) > 1:
        check_independence(setup.model, setup.function, first.batch, singles)
    if setup.terms:
        check_terms(setup.model, setup.task, first.batch)
    if setup.uses_gradients:
        check_reach(setup.model, setup.function, singles[0], setup.selected)
