"""The linear datamodeling score (LDS), its intervals, its noise ceiling, and the baselines beside it."""
