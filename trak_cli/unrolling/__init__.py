"""Exact derivatives of model outputs with respect to the weights of training samples, by reverse mode through a training."""
