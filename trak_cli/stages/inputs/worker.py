"""The share of the work that this process does."""

from __future__ import annotations

import os

from trak_cli.cluster.share import Share, share_from
from trak_cli.config.schema import WorkerConfig
from trak_cli.types import Reporter


def worker_share(worker: WorkerConfig, reporter: Reporter) -> Share:
    """The share of this process, with log lines about how the work is divided.

    Raises:
        ConfigError: see :func:`~trak_cli.cluster.share.share_from`.
    """
    share = share_from(worker.index, worker.count, os.environ)
    if share.warning:
        reporter.log(share.warning)
    return share
