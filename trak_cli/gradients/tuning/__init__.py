"""Choosing an engine and a microbatch by measurement."""
