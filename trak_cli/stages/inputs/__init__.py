"""What a stage that runs models works with: device, plugins, splits, checkpoints, and batches of samples."""
