"""Engines that compute per-sample gradients: hooks, vmap, the loop, and representations instead of gradients."""
