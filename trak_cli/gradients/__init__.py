"""Per-sample gradients of the model output, from (model, task, batch): engines, parameter selection, memory, checks."""

from trak_cli.gradients.autocast import AUTOCAST, Autocast, with_autocast
from trak_cli.gradients.checks import check_finite, check_independence, check_reach, first_not_finite
from trak_cli.gradients.contract import Engine, ModelOutput, PerSample
from trak_cli.gradients.engines import ENGINES, make_engine
from trak_cli.gradients.hooks import HooksEngine, Routes, describe_routes, find_routes, outer_products, whole_routed
from trak_cli.gradients.loop import LoopEngine
from trak_cli.gradients.measure import Candidate, Trial, measure
from trak_cli.gradients.memory import choose_microbatch
from trak_cli.gradients.parameters import only, select
from trak_cli.gradients.vmap import VmapEngine

__all__ = [
    "AUTOCAST",
    "ENGINES",
    "Autocast",
    "Candidate",
    "Engine",
    "HooksEngine",
    "LoopEngine",
    "ModelOutput",
    "PerSample",
    "Routes",
    "Trial",
    "VmapEngine",
    "check_finite",
    "check_independence",
    "check_reach",
    "choose_microbatch",
    "describe_routes",
    "find_routes",
    "first_not_finite",
    "make_engine",
    "measure",
    "only",
    "outer_products",
    "select",
    "whole_routed",
    "with_autocast",
]
