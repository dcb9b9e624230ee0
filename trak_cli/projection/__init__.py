"""The random projection of TRAK (section 3, step 2): which matrix, and what multiplies per-sample gradients by it.

:mod:`~trak_cli.projection.definition` defines every entry; the kernels, listed in :mod:`~trak_cli.projection.registry`,
multiply by the matrix without materialising it.
"""
