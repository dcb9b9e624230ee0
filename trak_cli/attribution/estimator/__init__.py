"""The estimator family: which rows, weights, ridge and corrections turn features into scores."""
