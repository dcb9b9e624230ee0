"""Per-sample gradients from the activations and output gradients of one ordinary forward and backward pass."""
