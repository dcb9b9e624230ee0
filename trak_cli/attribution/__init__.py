"""Arrays in, arrays out: Gram matrices, ridges, the estimator family, top-k and the linear datamodeling score.

Nothing here reads or writes files, or knows what a model is. Start with :mod:`trak_cli.attribution.spec`, which has
the formula.
"""

from trak_cli.attribution.bootstrap import Bootstrap, Comparison, Difference, Interval, bootstrap_interval, compare
from trak_cli.attribution.gram import Gram, GramSum
from trak_cli.attribution.ground_truth import check_ground_truth
from trak_cli.attribution.lds import LdsResult, lds, lds_of_predictions, streamed_predictions, subset_predictions
from trak_cli.attribution.ranks import spearman
from trak_cli.attribution.ridge import Ridge, default_ridge, describe_ridge, parse_ridge, resolve, ridge_problems
from trak_cli.attribution.scores import TargetFactor, front, score_block, scores, target_factor
from trak_cli.attribution.solve import precondition, singular_problems
from trak_cli.attribution.spec import MEMBERS, METRICS, EstimatorSpec, describe_formula, gram_key, spec_problems
from trak_cli.attribution.spectrum import Spectrum, decompose
from trak_cli.attribution.topk import Ends, Extremes, TopK

__all__ = [
    "MEMBERS",
    "METRICS",
    "Bootstrap",
    "Comparison",
    "Difference",
    "Ends",
    "EstimatorSpec",
    "Extremes",
    "Gram",
    "GramSum",
    "Interval",
    "LdsResult",
    "Ridge",
    "Spectrum",
    "TargetFactor",
    "TopK",
    "bootstrap_interval",
    "check_ground_truth",
    "compare",
    "decompose",
    "default_ridge",
    "describe_formula",
    "describe_ridge",
    "front",
    "gram_key",
    "lds",
    "lds_of_predictions",
    "parse_ridge",
    "precondition",
    "resolve",
    "ridge_problems",
    "score_block",
    "scores",
    "singular_problems",
    "spearman",
    "spec_problems",
    "streamed_predictions",
    "subset_predictions",
    "target_factor",
]
