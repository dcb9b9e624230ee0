"""The part of the work of this process, from the configuration, Slurm or torchrun."""
