"""A checkpoint reader: checkpoints in a format of your own, here NumPy's .npz with one array per parameter.

Put this file beside your YAML, and write into the YAML:

    extensions: [checkpoint_reader]
    checkpoints: checkpoints/*.npz

The reader returns names and CPU tensors. It must not unpickle: a checkpoint may come from someone else.
"""

from pathlib import Path

import numpy as np
import torch

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.readers import register_checkpoint_reader


@register_checkpoint_reader(".npz")
def read_npz(path: Path) -> dict[str, torch.Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError) as error:
        raise InputError(Problem(str(path), str(error), "arrays written by numpy.savez", "write the file again")) from error
