"""A metric of your own: the Gram matrix without the entries between blocks of coordinates.

Copy this file into the folder of your YAML files (the one you pass as ``-d``), and ``estimator/block_diagonal.yaml`` into its
``estimator`` folder. Add the module to your YAML file and select the estimator:

    extensions: [block_diagonal]

    trak finalize -d my_project estimator=block_diagonal
    trak score -d my_project estimator=block_diagonal

The features and the stored Gram matrix are the same as for ``metric: gram``; only B changes.
"""

import numpy as np

from trak_cli.attribution.estimator.registry import Metric, register_metric


@register_metric("block_diagonal")
class BlockDiagonal(Metric):
    """B = blockdiag(G_1 + λI, G_2 + λI, …)⁻¹, with G_b the b-th diagonal block of the Gram matrix."""

    #: Coordinates in one block; the last block may be smaller.
    block = 8

    def apply(self, targets, spectrum, ridge):
        """B t_j for targets (t, k): one linear solve per block."""
        gram = spectrum.matrix()
        applied = np.empty_like(targets)
        for start in range(0, len(gram), self.block):
            columns = slice(start, start + self.block)
            ridged = gram[columns, columns] + ridge * np.eye(len(gram[columns]))
            applied[:, columns] = np.linalg.solve(ridged, targets[:, columns].T).T
        return applied
