"""The share of the work that this process does, from the configuration, a scheduler or a launcher such as torchrun."""
