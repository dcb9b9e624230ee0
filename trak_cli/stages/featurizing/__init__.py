"""From a loaded configuration to rows of features."""
