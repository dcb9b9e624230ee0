"""The data sets of a LightningDataModule. Lightning itself is not imported: the module is the user's own object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trak_cli.errors import ConfigError, InputError, Problem

#: Split -> the stage that sets the module up for it, and the method that returns its loader.
_SPLITS = {
    "train": ("fit", "train_dataloader"),
    "val": ("fit", "val_dataloader"),
    "test": ("test", "test_dataloader"),
    "predict": ("predict", "predict_dataloader"),
}


def lightning_data(module: Any, split: str) -> Any:
    """The data set of one data loader of a LightningDataModule, in the order of the data set, not shuffled.

    Args:
        module: the module, as a node: ``{_target_: my_project.MyData, batch_size: 32}``.
        split: train, val, test or predict.

    Raises:
        ConfigError: another split, or the module has no such loader.
        InputError: a loader with several data sets or none.
    """
    if split not in _SPLITS:
        raise ConfigError(Problem("dataset split", repr(split), f"one of {', '.join(_SPLITS)}", "choose one of them"))
    stage, name = _SPLITS[split]
    loader_of: Callable[[], Any] | None = getattr(module, name, None)
    if loader_of is None:
        found = f"{type(module).__name__}, which has no {name}"
        raise ConfigError(Problem("dataset module", found, "a LightningDataModule", "name the class of your data module"))
    for prepare, arguments in (("prepare_data", ()), ("setup", (stage,))):
        if hasattr(module, prepare):
            getattr(module, prepare)(*arguments)
    loader = loader_of()
    if isinstance(loader, list | tuple) and len(loader) == 1:
        (loader,) = loader
    if not hasattr(loader, "dataset"):
        remedy = f"name the data set of your project itself, or let {name} return one DataLoader"
        returned = f"{len(loader)} loaders" if isinstance(loader, list | tuple | dict) else f"a {type(loader).__name__}"
        raise InputError(Problem("dataset module", f"{name} returned {returned}", "one DataLoader", remedy))
    return loader.dataset
