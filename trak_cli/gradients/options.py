"""Names that the keys under ``gradients`` accept. This module imports no PyTorch, so that checking a configuration is fast."""

from __future__ import annotations

#: Engines that ``gradients.engine`` may name besides ``auto`` and ``representation``.
ENGINES = ("hooks", "vmap", "loop")

#: The value of ``gradients.engine`` that reads a representation instead of gradients.
REPRESENTATION = "representation"

#: Values of ``gradients.side``.
SIDES = ("input", "output")

#: Values of ``gradients.autocast`` besides null: names of PyTorch dtypes.
AUTOCAST_DTYPES = ("bfloat16", "float16")

#: Values of ``gradients.optimizer`` besides null.
OPTIMIZERS = ("sgd", "adam")

#: Values of ``gradients.moments`` besides null.
MOMENTS = ("checkpoint", "samples")
