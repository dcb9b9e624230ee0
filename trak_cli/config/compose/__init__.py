"""Composing the configuration from YAML files and overrides."""
