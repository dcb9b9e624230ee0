"""trak: which training examples made the model say this?

A command-line implementation of TRAK (Park et al., ICML 2023, arXiv 2303.14186). ``docs/architecture.md`` is the map.

From Python, ``import trak_cli as trak`` has the functions below, each imported on first use: see ``docs/python.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trak_cli.lazy_names import lazy_names

if TYPE_CHECKING:
    from trak_cli.api.attribute import attribute as attribute
    from trak_cli.api.opening import open_store as open_store
    from trak_cli.api.scores import Scores as Scores
    from trak_cli.api.stages import compress as compress
    from trak_cli.api.stages import doctor as doctor
    from trak_cli.api.stages import eval_lds as eval_lds
    from trak_cli.api.stages import featurize as featurize
    from trak_cli.api.stages import finalize as finalize
    from trak_cli.api.stages import refine as refine
    from trak_cli.api.stages import retrain as retrain
    from trak_cli.api.stages import run as run
    from trak_cli.api.stages import score as score
    from trak_cli.api.stages import train as train
    from trak_cli.api.stages import tune as tune
    from trak_cli.api.stages import unroll as unroll
    from trak_cli.api.store import Store as Store
    from trak_cli.errors import ConfigError as ConfigError
    from trak_cli.errors import InputError as InputError
    from trak_cli.errors import MachineError as MachineError
    from trak_cli.errors import StoreError as StoreError
    from trak_cli.errors import TrakError as TrakError

__version__ = "0.1.0"

#: Module -> the public names that it defines.
_NAMES = {
    "api.attribute": ("attribute",),
    "api.scores": ("Scores",),
    "api.stages": (
        "compress",
        "doctor",
        "eval_lds",
        "featurize",
        "finalize",
        "refine",
        "retrain",
        "run",
        "score",
        "train",
        "tune",
        "unroll",
    ),
    "api.opening": ("open_store",),
    "api.store": ("Store",),
    "errors": ("ConfigError", "InputError", "MachineError", "StoreError", "TrakError"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = list(_MODULES)

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
