"""The Gauss–Newton matrix of the training loss in the space of the parameters: products, preconditioner, linear systems."""
