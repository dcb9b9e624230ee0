"""Per-sample gradients from the activations and output gradients of one ordinary forward and backward pass."""

from trak_cli.gradients.hooks.engine import HooksEngine
from trak_cli.gradients.hooks.factors import outer_products
from trak_cli.gradients.hooks.routes import Routes, describe_routes, whole_routed
from trak_cli.gradients.hooks.search import find_routes

__all__ = ["HooksEngine", "Routes", "describe_routes", "find_routes", "outer_products", "whole_routed"]
