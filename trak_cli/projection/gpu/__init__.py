"""Projection kernels for CUDA devices, compiled at run time by NVRTC."""
