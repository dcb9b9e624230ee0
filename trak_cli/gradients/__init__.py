"""Per-sample gradients of the model output, from (model, task, batch): engines, parameter selection, memory, checks."""

from trak_cli.gradients.adam import (
    OPTIMIZERS,
    SCALES_VERSION,
    OverlappingBlocksError,
    Scale,
    ScaledEngine,
    Scales,
    SecondMoments,
    matrix_shape,
    scaled,
)
from trak_cli.gradients.agreement import check_agreement
from trak_cli.gradients.autocast import AUTOCAST, Autocast, with_autocast
from trak_cli.gradients.checks import check_finite, check_independence, check_reach, check_terms, first_not_finite
from trak_cli.gradients.contract import Engine, ModelOutput, PerSample
from trak_cli.gradients.engines import ENGINES, make_engine
from trak_cli.gradients.hooks import HooksEngine, Routes, describe_routes, find_routes, outer_products, whole_routed
from trak_cli.gradients.loop import LoopEngine
from trak_cli.gradients.measure import SIZES, Candidate, Trial, measure
from trak_cli.gradients.memory import choose_microbatch
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.parameters import only, select
from trak_cli.gradients.representation import REPRESENTATION, SIDES, Place, RepresentationEngine, represented
from trak_cli.gradients.signed import SIGNS_VERSION, Signed, signs_of
from trak_cli.gradients.vmap import VmapEngine
from trak_cli.gradients.whole import cosine, difference, gradient_inside, gradient_of

__all__ = [
    "AUTOCAST",
    "ENGINES",
    "OPTIMIZERS",
    "REPRESENTATION",
    "SCALES_VERSION",
    "SIDES",
    "SIGNS_VERSION",
    "SIZES",
    "Autocast",
    "Candidate",
    "Engine",
    "HooksEngine",
    "LoopEngine",
    "ModelOutput",
    "OverlappingBlocksError",
    "PerSample",
    "Place",
    "RepresentationEngine",
    "Routes",
    "Scale",
    "ScaledEngine",
    "Scales",
    "SecondMoments",
    "Signed",
    "Trial",
    "VmapEngine",
    "check_agreement",
    "check_finite",
    "check_independence",
    "check_reach",
    "check_terms",
    "choose_microbatch",
    "cosine",
    "describe_routes",
    "difference",
    "exact",
    "find_routes",
    "first_not_finite",
    "gradient_inside",
    "gradient_of",
    "make_engine",
    "matrix_shape",
    "measure",
    "only",
    "outer_products",
    "represented",
    "scaled",
    "select",
    "signs_of",
    "whole_routed",
    "with_autocast",
]
