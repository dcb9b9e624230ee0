"""The configuration: composed from YAML files and overrides, checked as a whole, handed on as plain dataclasses.

The only room that knows Hydra and OmegaConf.
"""
