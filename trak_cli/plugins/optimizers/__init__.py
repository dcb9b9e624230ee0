"""The states of optimizers in checkpoints: reading them, and matching their entries with the parameters of a model."""
