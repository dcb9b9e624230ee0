"""Which part of the work is this process's: from the config, from Slurm, or from torchrun."""

from trak_cli.cluster.share import Share, share_from

__all__ = ["Share", "share_from"]
