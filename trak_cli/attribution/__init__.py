"""Arrays in, arrays out: Gram matrices, ridges, the estimator family, top-k and the linear datamodeling score.

Nothing here reads or writes files, or knows what a model is. Start with :mod:`trak_cli.attribution.spec`, which has
the formula.
"""

from trak_cli.attribution.bootstrap import Bootstrap, Comparison, Difference, Interval, bootstrap_interval, compare
from trak_cli.attribution.ceiling import noise_ceiling
from trak_cli.attribution.datamodels import BASELINES, FOLDS, cross_fitted
from trak_cli.attribution.gram import Gram, GramSum
from trak_cli.attribution.ground_truth import check_ground_truth
from trak_cli.attribution.lds import LdsResult, lds, lds_of_predictions, streamed_predictions, subset_predictions
from trak_cli.attribution.ranks import spearman
from trak_cli.attribution.ridge import Ridge, describe_ridge, parse_ridge, resolve, ridge_problems
from trak_cli.attribution.rows import clip_rows, median_length, norm_limit, training_rows, unit_rows
from trak_cli.attribution.scores import (
    TargetFactor,
    equalize,
    front,
    lengths_of,
    score_block,
    scores,
    target_factor,
)
from trak_cli.attribution.shrinkage import believed, cosines
from trak_cli.attribution.solve import precondition, singular_problems
from trak_cli.attribution.spec import (
    MEMBERS,
    METRICS,
    EstimatorSpec,
    describe_formula,
    describe_weights,
    gram_key,
    spec_problems,
)
from trak_cli.attribution.spectrum import Spectrum, decompose
from trak_cli.attribution.threshold import REFERENCE_ROWS, reference_rows, soften, thresholds
from trak_cli.attribution.topk import Ends, Extremes, TopK
from trak_cli.attribution.trajectory import (
    FLOW_ROWS,
    FLOW_VERSION,
    WINDOW,
    Trajectory,
    flow_rows,
    follows_log_loss,
    simulate,
)
from trak_cli.attribution.tuning import SearchSpace, groups, halves, predictions_by_ridge, subset_sums
from trak_cli.attribution.weights import Terms, Weights, add_rows, over_terms, trajectory_of, weigh, weights_of

__all__ = [
    "BASELINES",
    "FLOW_ROWS",
    "FLOW_VERSION",
    "FOLDS",
    "MEMBERS",
    "METRICS",
    "REFERENCE_ROWS",
    "WINDOW",
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
    "SearchSpace",
    "Spectrum",
    "TargetFactor",
    "Terms",
    "TopK",
    "Trajectory",
    "Weights",
    "add_rows",
    "believed",
    "bootstrap_interval",
    "check_ground_truth",
    "clip_rows",
    "compare",
    "cosines",
    "cross_fitted",
    "decompose",
    "describe_formula",
    "describe_ridge",
    "describe_weights",
    "equalize",
    "flow_rows",
    "follows_log_loss",
    "front",
    "gram_key",
    "groups",
    "halves",
    "lds",
    "lds_of_predictions",
    "lengths_of",
    "median_length",
    "noise_ceiling",
    "norm_limit",
    "over_terms",
    "parse_ridge",
    "precondition",
    "predictions_by_ridge",
    "reference_rows",
    "resolve",
    "ridge_problems",
    "score_block",
    "scores",
    "simulate",
    "singular_problems",
    "soften",
    "spearman",
    "spec_problems",
    "streamed_predictions",
    "subset_predictions",
    "subset_sums",
    "target_factor",
    "thresholds",
    "training_rows",
    "trajectory_of",
    "unit_rows",
    "weigh",
    "weights_of",
]
