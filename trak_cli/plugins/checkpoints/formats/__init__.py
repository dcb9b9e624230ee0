"""The formats of checkpoints, and the tensors in them."""
