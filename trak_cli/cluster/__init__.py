"""The part of the work of this process, from the configuration, a scheduler or a launcher such as torchrun."""
