"""What a run reads: plugins, splits, batches, and the device they go to."""
