"""Validating a composed configuration: every problem is reported at once."""
