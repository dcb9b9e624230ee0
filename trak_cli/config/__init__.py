"""The configuration: composed from YAML files and overrides, checked, and returned as plain dataclasses.

Only this package imports Hydra and OmegaConf.
"""
