"""What an estimator is: one small record of choices, shared by every formula in this room.

With features x (training) and t (targets), out-to-loss gradients q and checkpoints m = 1…M, the family is

    score(i, j) = mean_m [ x_{m,i}ᵀ B_m t_{m,j} ] · sign(q̄_i) |q̄_i|^a,      q̄_i = mean_m q_{m,i}

where B_m is (Σ_i |q_{m,i}|^b x_{m,i} x_{m,i}ᵀ + λ_m I)⁻¹ for metric "gram" and I for metric "identity". With weights
"trajectory", q is its mean over the beginning of a simulated training (:mod:`simulated_training`); where f is a
sum, the Gram matrix is then over single terms (:class:`Terms`). With averaging "scores" every
checkpoint has its own factor in front, sign(q_{m,i})|q_{m,i}|^a, and the products are averaged. With ``equal_targets``, t_{m,j}
stands for t_{m,j} · mean_m l_{m,j} / l_{m,j}, l² = tᵀ B t. With ``clip_norm`` = c, x_{m,i} stands for
x_{m,i} · min(1, c · median_i ‖x_{m,i}‖ / ‖x_{m,i}‖). At last the scores of pairs that are little alike may be shrunk
(:mod:`shrinkage`), and all be soft-thresholded (:mod:`threshold`).

To add a member of this form, add a line to :data:`MEMBERS` and a YAML file to the ``estimator`` group; a new kind of choice is
a field here, a line in :func:`spec_problems` and one in the function of this room that acts on it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from trak_cli.attribution.estimator.ridge import parse_ridge, resolve, ridge_problems
from trak_cli.attribution.estimator.simulated_training import WINDOW
from trak_cli.attribution.linalg.spectrum import Spectrum
from trak_cli.errors import Problem

METRICS = ("gram", "identity")

WEIGHTS = ("final", "trajectory")

AVERAGING = ("kernels", "scores")

#: ``clip_norm`` of the default; chosen by experiment (docs/benchmarks.md).
CLIP = 1.5

#: ``shrinkage`` of the default; likewise.
SHRINKAGE = 0.1

_PATH_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class EstimatorSpec:
    """One member of the estimator family.

    Attributes:
        name: what its results are filed under; safe as a folder name.
        metric: "gram" (features are compared through the inverse of the ridged Gram matrix) or "identity" (directly).
        gram_exponent: b; sample i enters the Gram with weight |q_i|^b. b = 1 is the Gram of features scaled by √q,
            b = 2 that of loss gradients (the empirical Fisher matrix).
        front_exponent: a; sign(q̄_i)|q̄_i|^a multiplies the scores of training sample i. a = 0 leaves the sign of q̄ only.
        unit_norm: every row of training and target features is brought to unit length before anything else.
        ridge: λ, as :mod:`ridge` reads it.
        weights: which q is meant: "final", as the checkpoint gives it, or "trajectory", its mean over the beginning of
            training. What it is where q does not follow from f as for log-odds: :func:`trajectory_of`.
        averaging: over checkpoints: "kernels" (the kernel and q apart, and then multiplied: the paper's) or "scores" (the
            finished scores of each checkpoint). With one checkpoint, and where q has no factor (a = 0), they are the same.
        equal_targets: every checkpoint counts alike for a target: its features are brought to their mean length over the
            checkpoints, (tᵀ B t)^(1/2) in the metric of the scores. Gradients of a target can be ten times as long under one
            checkpoint as under another, and that one would decide alone.
        clip_norm: training features that are longer than so many times their median length, under a checkpoint, are brought to
            that length; 0 for none. A sample of very long gradient is learned in a step or two, and pulls no more.
        shrinkage: κ; a score is multiplied by |c| / (|c| + κ / √M), with c the mean cosine, over M checkpoints, of the features
            of its two samples; 0 for none.
        soft_threshold: the share of the scores of each target that is set to zero, in [0, 1); the others move toward zero
            by as much as the largest of those (:mod:`threshold`).
    """

    name: str
    metric: str = "gram"
    gram_exponent: float = 0.0
    front_exponent: float = 1.0
    unit_norm: bool = False
    ridge: str = "auto"
    weights: str = "final"
    averaging: str = "kernels"
    equal_targets: bool = False
    clip_norm: float = 0.0
    shrinkage: float = 0.0
    soft_threshold: float = 0.0

    @property
    def needs_gram(self) -> bool:
        """Whether a Gram matrix must be finalised before this estimator can score."""
        return self.metric == "gram"

    @property
    def follows_training(self) -> bool:
        """Whether its weights come from a simulated training."""
        return self.weights == "trajectory"

    @property
    def takes_terms(self) -> bool:
        """Whether it has a use for the terms of samples that are sums (:class:`Terms`).

        Only where the Gram matrix is meant as a curvature; the paper's is over whole samples. And rows that are brought to
        unit length are whole samples: their terms have no such length.
        """
        return self.needs_gram and self.follows_training and not self.unit_norm

    def default_ridge(self, of_terms: bool = False) -> str:
        """What ridge "auto" stands for, for a Gram matrix over samples or over single terms.

        Unlike final ones, the weights of a trajectory have a scale of their own (q is ½ at first), so that λ can have the
        scale of a sample or two, or of five terms; measured in docs/benchmarks.md.
        """
        if not self.follows_training:
            return "1w"
        return "5w" if of_terms else "2w|0.3n"

    def ridge_in(self, spectrum: Spectrum) -> float:
        """λ itself, for a Gram matrix of this estimator."""
        return resolve(parse_ridge(self.ridge, self.default_ridge(spectrum.of_terms)), spectrum)


#: ``trajectory``, the default, has the q of the beginning of training in the Gram and in front.
#: ``balanced`` weights sample i by q_i once in the Gram and by √q_i in front: the Gram is then nearly the Gauss-Newton
#: matrix of the log loss, Σ q(1 - q) g gᵀ, and one sample of large loss can no longer rule every score.
#: ``trak`` is the paper's τ_TRAK (Park et al. 2023, section 3.2, arXiv 2303.14186); ``trak_soft`` has its
#: last step too, half of the scores being taken for noise; ``dot`` is TracIn over
#: checkpoints of one run with equal learning rates (Pruthi et al. 2020, arXiv 2002.08484), with q averaged over
#: checkpoints apart from the kernel as everywhere here (with one checkpoint the two are the same); ``cosine`` is the
#: cosine of loss and output gradients.
MEMBERS = {
    spec.name: spec
    for spec in (
        EstimatorSpec(
            "trajectory", gram_exponent=1.0, weights="trajectory", equal_targets=True, clip_norm=CLIP, shrinkage=SHRINKAGE
        ),
        EstimatorSpec("balanced", gram_exponent=1.0, front_exponent=0.5),
        EstimatorSpec("trak"),
        EstimatorSpec("trak_soft", soft_threshold=0.5),
        EstimatorSpec("dot", metric="identity"),
        EstimatorSpec("cosine", metric="identity", front_exponent=0.0, unit_norm=True),
    )
}


def spec_problems(spec: EstimatorSpec) -> list[Problem]:
    """Everything that is wrong with a spec, each under its config key; empty when it can be used."""
    problems = [
        *_exponent_problems("estimator.gram_exponent", spec.gram_exponent),
        *_exponent_problems("estimator.front_exponent", spec.front_exponent),
        *ridge_problems(spec.ridge),
    ]
    if not _PATH_SAFE.fullmatch(spec.name):
        expected = "letters, digits, '.', '_' and '-', beginning with a letter or digit (it names a folder)"
        problems.append(Problem("estimator.name", repr(spec.name), expected, "choose such a name"))
    if spec.metric not in METRICS:
        expected = " or ".join(METRICS)
        problems.append(Problem("estimator.metric", repr(spec.metric), expected, "set estimator.metric=gram"))
    if spec.weights not in WEIGHTS:
        expected = " or ".join(WEIGHTS)
        problems.append(Problem("estimator.weights", repr(spec.weights), expected, "set estimator.weights=final"))
    if spec.averaging not in AVERAGING:
        expected = " or ".join(AVERAGING)
        problems.append(Problem("estimator.averaging", repr(spec.averaging), expected, "set estimator.averaging=kernels"))
    problems += _clip_problems(spec)
    if not (math.isfinite(spec.shrinkage) and spec.shrinkage >= 0):
        expected = "a finite cosine, at which half of a score of one checkpoint is believed, or 0 for no shrinking"
        problems.append(
            Problem("estimator.shrinkage", repr(spec.shrinkage), expected, f"set estimator.shrinkage={SHRINKAGE:g}")
        )
    if not 0 <= spec.soft_threshold < 1:
        found, expected = repr(spec.soft_threshold), "a share of the scores, 0 or more and below 1"
        problems.append(Problem("estimator.soft_threshold", found, expected, "set e.g. estimator.soft_threshold=0.5"))
    if spec.metric == "identity":
        problems += _unused_problems(spec)
    return problems


def gram_key(spec: EstimatorSpec, with_terms: bool = False) -> str:
    """A path-safe name of the Gram that this spec needs: "plain", "q1", "q0.5-unit", …; equal keys share one Gram.

    ``with_terms``: of features that have terms beside them ("trajectory-q1-terms"), of which not every spec makes use.

    A spec that needs none (``spec.needs_gram`` is false) has the key "identity".
    """
    if not spec.needs_gram:
        return "identity"
    weight = f"q{_short(spec.gram_exponent)}" if spec.gram_exponent else ""
    clip = f"clip{_short(spec.clip_norm)}" if spec.clip_norm else ""
    terms = "terms" if with_terms and spec.takes_terms else ""
    parts = ("trajectory" if spec.follows_training else "", weight, "unit" if spec.unit_norm else "", clip, terms)
    return "-".join(part for part in parts if part) or "plain"


def describe_formula(spec: EstimatorSpec) -> str:
    """The estimator in one line, for people."""
    kernel = "xᵢᵀ tⱼ"
    if spec.needs_gram:
        weight = _power("|q|", spec.gram_exponent)
        kernel = f"xᵢᵀ (Σ {weight + ' ' if weight else ''}x xᵀ + λI)⁻¹ tⱼ"
    front = f"sign(q̄ᵢ) {_power('|q̄ᵢ|', spec.front_exponent)}".rstrip() if spec.front_exponent != 1 else "q̄ᵢ"
    notes = ["x, t of unit length"] if spec.unit_norm else []
    notes += [f"x clipped at {spec.clip_norm:g} times their median length"] if spec.clip_norm else []
    notes += ["q averaged over the beginning of training"] if spec.follows_training else []
    notes += ["targets of equal length under all checkpoints"] if spec.equal_targets else []
    notes += ["scores averaged"] if spec.averaging == "scores" else []
    notes += [f"λ = {_ridges(spec)}"] if spec.needs_gram else []
    if spec.shrinkage:
        notes.append(f"times |c| / (|c| + {spec.shrinkage:g}/√M), c the mean cosine of x and t under M checkpoints")
    if spec.soft_threshold:
        notes.append(f"soft-thresholded: {spec.soft_threshold:.0%} of the scores of each target become 0")
    return f"score(i, j) = mean over checkpoints of [{kernel}] · {front}" + (f"; {', '.join(notes)}" if notes else "")


def _ridges(spec: EstimatorSpec) -> str:
    if spec.ridge != "auto":
        return spec.ridge
    one, other = spec.default_ridge(), spec.default_ridge(of_terms=True)
    return f"{one} ({other} for sums over tokens)" if spec.takes_terms else one


def describe_weights(spec: EstimatorSpec, length: float = 1.0) -> str:
    """Which q weighs the samples, and why, in one line.

    ``length`` of the simulated training: 0 where q is a mean of probabilities that does not follow from f; NaN where it is
    not even that.
    """
    if not spec.follows_training:
        return "q = the out-to-loss gradients of the checkpoints, as they are"
    if length > 0:
        return f"q = its mean over the first {WINDOW:.0%} of a training that is simulated from the features"
    unlike = "q does not follow from f here, so no training can be simulated"
    if length == 0:
        return f"{unlike}: all samples weigh alike"
    return f"{unlike}: the out-to-loss gradients stand in front as they are, and none in the Gram"


def _exponent_problems(key: str, exponent: float) -> list[Problem]:
    if math.isfinite(exponent) and exponent >= 0:
        return []
    return [Problem(key, repr(exponent), "a finite number, 0 or more", f"set {key}=1")]


def _clip_problems(spec: EstimatorSpec) -> list[Problem]:
    key, found = "estimator.clip_norm", repr(spec.clip_norm)
    if not (math.isfinite(spec.clip_norm) and spec.clip_norm >= 0):
        return [Problem(key, found, "a finite number of median lengths, or 0 for no clipping", f"set {key}={CLIP:g}")]
    if not spec.clip_norm:
        return []
    problems = []
    if spec.metric == "identity":
        expected = "0, because the median length is filed with the Gram matrix, which metric identity has not"
        problems.append(Problem(key, found, expected, "set it to 0, or estimator.metric=gram"))
    if spec.unit_norm:
        expected = "0, because with estimator.unit_norm=true all features have one length"
        problems.append(Problem(key, found, expected, "set it to 0, or estimator.unit_norm=false"))
    return problems


def _unused_problems(spec: EstimatorSpec) -> list[Problem]:
    reason = "because metric identity has no Gram matrix"
    problems = []
    if spec.gram_exponent != 0:
        remedy = "leave it out, or set estimator.metric=gram"
        problems.append(Problem("estimator.gram_exponent", repr(spec.gram_exponent), f"0, {reason}", remedy))
    if spec.weights != "final":
        problems.append(Problem("estimator.weights", repr(spec.weights), f"final, {reason}", "leave it out"))
    if spec.ridge != "auto":
        remedy = "leave it out, or set estimator.metric=gram"
        problems.append(Problem("estimator.ridge", repr(spec.ridge), f"auto, {reason}", remedy))
    return problems


def _short(number: float) -> str:
    return repr(float(number)).removesuffix(".0")


def _power(base: str, exponent: float) -> str:
    if exponent == 0:
        return ""
    return base if exponent == 1 else f"{base}^{_short(exponent)}"
