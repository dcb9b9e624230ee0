"""The effect of shrinkage: LDS of the default with several κ or soft thresholds, relative to the default with neither.

python scripts/lds/shrinking.py [SETTING ...]      after scripts/bench_lds.py has prepared the settings
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import ours
from reference import reference_settings
from setting import names, open_setting

from trak_cli.attribution.estimator.shrinkage import shrinkage_factor
from trak_cli.attribution.estimator.threshold import soften, thresholds
from trak_cli.attribution.lds.lds import lds
from trak_cli.config.estimators import shipped_estimators

Array = np.ndarray[Any, Any]

COUNTS = (1, 5)
SHRINKAGES = (0.03, 0.05, 0.1, 0.2, 0.4)
SHARES = (0.2, 0.5)


def main() -> None:
    results = {name: measured(name) for name in sys.argv[1:] or [*names(), *reference_settings()]}
    labels = next(iter(results.values()))[COUNTS[0]]
    for label in labels:
        ratios = {count: np.array([one[count][label] / one[count]["plain"] for one in results.values()]) for count in COUNTS}
        told = "   ".join(f"{count}: mean {ratio.mean():.3f} worst {ratio.min():.3f}" for count, ratio in ratios.items())
        print(f"{label:22s} {told}")


def measured(name: str) -> dict[int, dict[str, float]]:
    """{count: {what is done to the scores: LDS}}"""
    known = reference_settings()
    setting = known[name] if name in known else open_setting(name)
    masks, models = setting.truth
    outputs = models.mean(axis=1)
    result = {}
    spec = shipped_estimators()["early_training"]
    for parts in ours.parts(setting, spec, COUNTS):
        count, alike = len(parts), ours.mean_cosines(parts)
        scores = ours.together(parts, replace(spec, shrinkage=0.0))
        single = scores.astype(np.float32)
        variants = {"plain": scores}
        variants |= {f"κ = {κ:g}": scores * shrinkage_factor(alike, κ, count) for κ in SHRINKAGES}
        variants |= {f"κ = {κ:g} whatever M": scores * shrinkage_factor(alike, κ) for κ in SHRINKAGES}
        variants |= {f"soft threshold {share:.0%}": soften(single, thresholds(single, share)) for share in SHARES}
        result[count] = {label: lds(one, masks, outputs).mean for label, one in variants.items()}
    print(f"{name}: plain {result[COUNTS[0]]['plain']:.3f}", file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    main()
