"""Finding the weights of a model among the tensors of a checkpoint file."""
