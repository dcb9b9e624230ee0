"""The Gram matrix and its eigendecomposition."""
