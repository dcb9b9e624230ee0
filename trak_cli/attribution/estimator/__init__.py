"""The estimator family: which metric, weights, ridge and corrections turn features into scores."""
