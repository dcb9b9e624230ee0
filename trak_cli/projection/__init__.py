"""The random projection of TRAK (section 3, step 2): the matrix, and the kernels that multiply per-sample gradients by it.

:mod:`~trak_cli.projection.definition` defines every entry. The kernels in :mod:`~trak_cli.projection.registry` multiply by the
matrix without materialising it.
"""
