"""Metrics of scores beside the LDS: arrays in, arrays out. docs/evaluate.md compares them with those of other tools."""
