"""The linear datamodeling score (LDS): its intervals, its noise ceiling, and baselines fitted to the ground truth."""
