"""Projection kernels for the CPU: compiled C, and PyTorch's own products."""
