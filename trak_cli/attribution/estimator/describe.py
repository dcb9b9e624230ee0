"""An estimator in words, one line each, for people."""

from __future__ import annotations

from trak_cli.attribution.estimator.simulated_training import WINDOW
from trak_cli.attribution.estimator.spec import EstimatorSpec, short


def describe_formula(spec: EstimatorSpec) -> str:
    """The formula of the scores, with its exponents filled in and its corrections named."""
    kernel = f"score(i, j) = mean over checkpoints of [{_kernel(spec)}] · {_sample_weight(spec)}"
    notes = list(_notes(spec))
    return kernel + (f"; {', '.join(notes)}" if notes else "")


def describe_ridge(spec: EstimatorSpec, over: str = "samples") -> str:
    """How λ is chosen for a Gram matrix over "samples", single "terms" or all "classes"."""
    if not spec.needs_gram:
        return f"no ridge: metric {spec.metric} has no Gram matrix"
    why = "automatic" if spec.ridge is None else "as given"
    return f"λ = {spec.ridge_rule(over)} ({why})"


def describe_weights(spec: EstimatorSpec, length: float = 1.0) -> str:
    """Which q weights the samples, and why.

    Args:
        spec: the estimator.
        length: of the simulated training; 0 if q is a mean of probabilities that does not follow from f, NaN if it is not even
            that.
    """
    if not spec.simulates_training:
        return "q = the out-to-loss gradients of the checkpoints"
    if length > 0:
        return f"q is averaged over the first {WINDOW:.0%} of a training that is simulated from the features"
    reason = "q does not follow from f here, so no training can be simulated"
    if length == 0:
        return f"{reason}: all samples have the same weight"
    return f"{reason}: scores are multiplied by the out-to-loss gradients, and the Gram matrix has no weights"


def _kernel(spec: EstimatorSpec) -> str:
    if spec.metric == "identity":
        return "xᵢᵀ tⱼ"
    weight = _power("|q|", spec.gram_exponent)
    gram = f"Σ {weight + ' ' if weight else ''}x xᵀ"
    if spec.metric == "gram":
        return f"xᵢᵀ ({gram} + λI)⁻¹ tⱼ"
    arguments = f"({gram}, λ)" if spec.needs_gram else ""
    return f"xᵢᵀ {spec.metric}{arguments} tⱼ"


def _sample_weight(spec: EstimatorSpec) -> str:
    return "q̄ᵢ" if spec.weight_exponent == 1 else f"sign(q̄ᵢ) {_power('|q̄ᵢ|', spec.weight_exponent)}".rstrip()


def _notes(spec: EstimatorSpec) -> list[str]:
    notes = ["x, t of unit length"] if spec.unit_norm else []
    notes += [f"x clipped at {spec.clip_norm:g} times their median length"] if spec.clip_norm else []
    notes += ["q averaged over the beginning of training"] if spec.simulates_training else []
    notes += ["targets of equal length under all checkpoints"] if spec.normalize_targets else []
    notes += ["scores averaged"] if spec.averaging == "scores" else []
    notes += [f"λ = {_ridge(spec)}"] if spec.needs_gram else []
    if spec.shrinkage:
        notes.append(f"times |c| / (|c| + {spec.shrinkage:g}/√M), c the mean cosine of x and t under M checkpoints")
    if spec.soft_threshold:
        notes.append(f"soft-thresholded: {spec.soft_threshold:.0%} of the scores of each target become 0")
    return notes


def _ridge(spec: EstimatorSpec) -> str:
    rule = str(spec.ridge_rule())
    return (
        f"{rule} ({spec.ridge_rule('terms')} for sums over tokens, {spec.ridge_rule('classes')} for three classes or more)"
        if spec.ridge is None and spec.uses_curvature
        else rule
    )


def _power(base: str, exponent: float) -> str:
    if exponent == 0:
        return ""
    return base if exponent == 1 else f"{base}^{short(exponent)}"
