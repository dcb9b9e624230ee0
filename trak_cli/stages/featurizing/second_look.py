"""Compares the speed of the first shard with the measurements in the run plan."""

from __future__ import annotations

from trak_cli.errors import ConfigError, InputError, MachineError
from trak_cli.gradients.tuning.measure import EQUAL, choose, samples_of_race
from trak_cli.stages.featurizing.engine_selection import EngineSelector
from trak_cli.stages.index.run_plan import RunPlan
from trak_cli.user_errors import report_user_errors

#: The engines are measured again if a sample of the first shard takes more than this many times as long as planned.
SLOWER = 1.5


def look_again(selector: EngineSelector, plan: RunPlan, seconds: float, left: int) -> None:
    """Log a warning if the first shard was slow and another engine is faster, with the command that uses it.

    The plan is kept: engines round differently, and all shards of a store must have the values that any worker and any restart
    computes.

    Args:
        seconds: time of one pass over one sample of the first shard.
        left: samples that this worker has not computed yet; nothing is measured for fewer samples than that takes.
    """
    chosen = selector.setup.gradients.engine == "auto"
    if not chosen or plan.seconds is None or seconds <= SLOWER * plan.seconds:
        return
    engines = list(dict.fromkeys(trial["engine"] for trial in plan.measured))
    if left < samples_of_race(len(engines), plan.microbatch):
        return
    try:
        with report_user_errors("model", library=True):
            trials, _ = selector.race(engines, (plan.microbatch,))
    except (InputError, ConfigError, MachineError):  # the first shard was computed, so the engine of the plan works
        return
    best = choose(trials)
    own = min((trial.seconds for trial in trials if trial.engine == plan.engine), default=seconds)
    if best.engine != plan.engine and own > EQUAL * best.seconds:
        selector.reporter.log(
            f"warning: the first shard took {1000 * seconds:.3g} ms a sample with gradients={plan.engine}, which took "
            f"{1000 * plan.seconds:.3g} when it was chosen; gradients={best.engine} now takes {1000 * best.seconds:.3g}. This"
            f" store keeps its engine, so that all shards agree to the last bit. For the faster one, use another store:"
            f" name=NAME gradients={best.engine}"
        )
