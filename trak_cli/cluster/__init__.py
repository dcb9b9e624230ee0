"""Which part of the work is this process's: from the config, from Slurm, or from torchrun."""
