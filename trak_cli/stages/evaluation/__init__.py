"""Ground truth, the LDS and the search for an estimator."""
