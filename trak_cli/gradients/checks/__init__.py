"""Checks that a model's outputs and an engine's gradients can be trusted."""
