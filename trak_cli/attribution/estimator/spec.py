"""What an estimator is: one record of choices, the only place where its fields and their defaults stand.

With features x (training) and t (targets), out-to-loss gradients q and checkpoints m = 1…M, the family is

    score(i, j) = mean_m [ x_{m,i}ᵀ B_m t_{m,j} ] · sign(q̄_i) |q̄_i|^a,      q̄_i = mean_m q_{m,i}

(Park et al. 2023, section 3.2, with a = 1, b = 0), where B_m is (Σ_i |q_{m,i}|^b x_{m,i} x_{m,i}ᵀ + λ_m I)⁻¹ for metric "gram",
I for metric "identity", and what you define for a metric of your own (:mod:`trak_cli.attribution.estimator.registry`). The
fields below say how the formula varies.

The named members of the family are the YAML files in ``configs/estimator``. A new kind of choice is a field here, a check in
:mod:`trak_cli.attribution.estimator.validation`, and a line in the function that acts on it. Fingerprints, names of Gram files
and the config schema are derived from the fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trak_cli.attribution.estimator import metrics as metrics  # registers gram and identity
from trak_cli.attribution.estimator.registry import Metric, metric_named
from trak_cli.attribution.estimator.ridge import RIDGE_UNITS, Ridge
from trak_cli.attribution.linalg.spectrum import Spectrum

WEIGHTS = ("final", "early_training")

AVERAGING = ("kernels", "scores")


def _choice(
    default: Any, help: str, *, choices: Sequence[str] = (), needs_gram: bool = False, shapes_gram: bool = False
) -> Any:
    """A field with its help text.

    Args:
        default: what leaves the field without effect. It must never change: fingerprints leave out fields at their default.
        help: one line, shown with the config key.
        choices: the accepted texts.
        needs_gram: the field has no effect without a Gram matrix, and is refused there.
        shapes_gram: estimators that differ in this field have different Gram matrices.
    """
    metadata = {"help": help, "choices": tuple(choices), "needs_gram": needs_gram, "shapes_gram": shapes_gram}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class EstimatorSpec:
    """One member of the estimator family.

    Attributes:
        name: what its results are filed under; safe as a folder name.
        metric: a registered metric: "gram" (features are compared through the inverse of the ridged Gram matrix), "identity"
            (directly), or one of your own.
        weights: which q is used: "final", as the checkpoint gives it, or "early_training", its mean over the beginning of a
            simulated training. What it is where q does not follow from f as for log-odds: :func:`weights.simulate_for`.
        gram_exponent: b; sample i enters the Gram matrix with weight |q_i|^b. b = 1 is the Gram matrix of features scaled by
            √q, b = 2 that of loss gradients (the empirical Fisher matrix).
        weight_exponent: a; sign(q̄_i)|q̄_i|^a multiplies the scores of training sample i. a = 0 leaves the sign of q̄ only.
        unit_norm: every row of training and target features is brought to unit length before anything else.
        clip_norm: training features that are longer than this many times their median length, under a checkpoint, are scaled
            down to that length; 0 for none. A sample with a very long gradient is learned in a step or two, and contributes
            little afterwards.
        ridge: λ in units of ``ridge_unit``; None for the rule of :meth:`automatic_ridge`.
        ridge_unit: a key of :data:`ridge.RIDGE_UNITS`.
        averaging: over checkpoints: "kernels" (kernel and q are averaged separately, then multiplied: the paper's) or "scores"
            (the finished scores of each checkpoint). They agree for one checkpoint, and where q is no factor (a = 0).
        normalize_targets: every checkpoint counts equally for a target: the features of the target are brought to their mean
            length (tᵀ B t)^(1/2) over the checkpoints. The gradients of a target can be ten times as long under one checkpoint
            as under another, and that checkpoint would dominate its scores.
        shrinkage: κ; a score is multiplied by |c| / (|c| + κ / √M), with c the mean cosine, over M checkpoints, of the features
            of its two samples; 0 for none (:mod:`trak_cli.attribution.estimator.shrinkage`).
        soft_threshold: the share of the scores of each target that is set to zero, in [0, 1); the other scores move toward zero
            by as much as the largest of those (:mod:`trak_cli.attribution.estimator.threshold`).
    """

    name: str = dataclasses.field(kw_only=False)
    metric: str = _choice("gram", "gram, identity, or a metric of your own (see extensions)")
    weights: str = _choice(
        "final",
        "final: q of the checkpoint; early_training: q averaged over the beginning of a simulated training",
        choices=WEIGHTS,
        needs_gram=True,
        shapes_gram=True,
    )
    gram_exponent: float = _choice(0.0, "b: sample i has weight |q_i|^b in the Gram matrix", needs_gram=True, shapes_gram=True)
    weight_exponent: float = _choice(1.0, "a: scores of sample i are multiplied by sign(q_i) |q_i|^a")
    unit_norm: bool = _choice(False, "scale every feature row to unit length first", shapes_gram=True)
    clip_norm: float = _choice(
        0.0,
        "scale training features down to this many times their median length; 0: no clipping",
        needs_gram=True,
        shapes_gram=True,
    )
    ridge: float | None = _choice(None, "damping λ in units of ridge_unit; null: automatic", needs_gram=True)
    ridge_unit: str = _choice(
        "mean_weighted_norm",
        "absolute: λ itself; mean_diagonal: of the Gram matrix; mean_norm: mean ‖x‖²; mean_weighted_norm: mean |q|^b ‖x‖²",
        choices=tuple(RIDGE_UNITS),
        needs_gram=True,
    )
    averaging: str = _choice(
        "kernels",
        "over checkpoints: kernels (kernel and q separately, as the paper does) or scores (their products)",
        choices=AVERAGING,
    )
    normalize_targets: bool = _choice(
        False, "scale the features of a target to one length over all checkpoints, so that these count equally"
    )
    shrinkage: float = _choice(
        0.0,
        "multiply scores by |c| / (|c| + shrinkage / sqrt(checkpoints)), c the mean cosine of the two samples; 0: no shrinkage",
    )
    soft_threshold: float = _choice(
        0.0, "share of the scores of each target that becomes 0; the others shrink by the largest magnitude among these"
    )

    @property
    def metric_rule(self) -> Metric:
        """The registered metric.

        Raises:
            ConfigError: no metric of that name is registered.
        """
        return metric_named(self.metric)

    @property
    def needs_gram(self) -> bool:
        """Whether a Gram matrix must be finalised before this estimator can score."""
        return self.metric_rule.needs_gram

    @property
    def simulates_training(self) -> bool:
        """Whether its weights come from a simulated training."""
        return self.weights == "early_training"

    @property
    def uses_curvature(self) -> bool:
        """Whether its Gram matrix is over single terms (tokens), or over all classes, where features of them are stored.

        Only where the Gram matrix approximates a curvature; the paper's is over whole samples and f. Rows that are brought to
        unit length are whole samples: their terms have no such length.
        """
        return self.needs_gram and self.simulates_training and not self.unit_norm

    def automatic_ridge(self, over: str = "samples") -> Ridge:
        """The rule that ``ridge`` None stands for, for a Gram matrix over "samples", single "terms" or all "classes".

        Unlike final weights, those of a simulated training have a scale of their own (q is ½ at first), so that λ can have the
        scale of a sample or two, or of five terms. Over samples it is smaller if a ridge regression with it explains less than
        45 % of the variance of the outputs; over all classes, whose weights add up over the classes of a sample, less than
        30 %. Measured in docs/default.md.
        """
        if not self.simulates_training:
            return Ridge(1.0)
        if over == "terms":
            return Ridge(5.0)
        return Ridge(0.75, floor=0.225, explained=0.3) if over == "classes" else Ridge(2.0, floor=0.3, explained=0.45)

    def ridge_rule(self, over: str = "samples") -> Ridge:
        """The rule for λ: as given, or automatic."""
        return self.automatic_ridge(over) if self.ridge is None else Ridge(self.ridge, self.ridge_unit)

    def ridge_in(self, spectrum: Spectrum) -> float:
        """λ itself, for a Gram matrix of this estimator."""
        return self.ridge_rule(spectrum.over).resolve(spectrum)


def choices(spec: EstimatorSpec) -> dict[str, Any]:
    """The fields, by name, that differ from their defaults; without the name of the estimator, which does not change scores."""
    fields = [field for field in dataclasses.fields(EstimatorSpec) if field.name != "name"]
    return {field.name: value for field in fields if (value := getattr(spec, field.name)) != field.default}


def without_unused(spec: EstimatorSpec) -> EstimatorSpec:
    """The same estimator, with fields that have no effect set to their defaults."""
    changes: dict[str, Any] = {}
    if not spec.needs_gram:
        changes |= {
            field.name: field.default for field in dataclasses.fields(EstimatorSpec) if field.metadata.get("needs_gram")
        }
    if spec.unit_norm:
        changes["clip_norm"] = 0.0
    if spec.ridge is None:
        changes["ridge_unit"] = EstimatorSpec(spec.name).ridge_unit
    return dataclasses.replace(spec, **changes)


def gram_key(spec: EstimatorSpec, curvature: str | None = None) -> str:
    """A path-safe name of the Gram matrix that this spec needs; specs with equal keys share one.

    It lists the fields that shape the Gram matrix and differ from their defaults: "unweighted" if none does, else for example
    "gram_exponent-0.5-unit_norm" or "early_training-gram_exponent-1-clip_norm-1.5-per_token". A spec that needs no Gram matrix
    has the key "no_gram".

    Args:
        spec: the estimator.
        curvature: what is stored besides features, "terms" (tokens) or "classes"; not every estimator uses them.
    """
    if not spec.needs_gram:
        return "no_gram"
    shaping = {field.name for field in dataclasses.fields(EstimatorSpec) if field.metadata.get("shapes_gram")}
    parts = [_part(name, value) for name, value in choices(spec).items() if name in shaping]
    if curvature is not None and spec.uses_curvature:
        parts.append({"terms": "per_token", "classes": "all_classes"}[curvature])
    return "-".join(parts) or "unweighted"


def short(number: float) -> str:
    """The number with all its digits, and without a trailing ".0"."""
    return repr(float(number)).removesuffix(".0")


def _part(name: str, value: bool | str | float) -> str:
    if isinstance(value, bool):
        return name
    return value if isinstance(value, str) else f"{name}-{short(value)}"
