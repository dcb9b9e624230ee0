"""Compiled kernels of the projection: the C and CUDA sources, and what builds and launches them."""
