"""Whether shapes may depend on the content of samples: detected from the operations that a model performs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from trak_cli.batches import leaves

#: Methods that read a tensor's values without an operator.
_READERS = {Tensor.tolist, Tensor.numpy, Tensor.__array__}


class Watch:
    """While entered, records what the model has done so far.

    Attributes:
        cut: it has used an operator whose output shape depends on values, such as selecting rows by a mask.
        read: it has read values into Python, where they may become sizes; True from the start if the batch holds lists.
    """

    def __init__(self, batch: Any) -> None:
        self.cut = False
        self.read = any(isinstance(leaf, list | tuple) for _, leaf in leaves(batch))
        self._modes = ExitStack()

    def __enter__(self) -> Watch:
        for mode in (_Operations(self), _Methods(self)):
            self._modes.enter_context(mode)
        return self

    def __exit__(self, *exception: object) -> None:
        self._modes.close()


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, watch: Watch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.dynamic_output_shape in func.tags:
            self._watch.cut |= func is not torch.ops.aten.index.Tensor or _by_mask(args[1])
        if torch.Tag.data_dependent_output in func.tags:
            self._watch.read = True
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._watch.read |= func in _READERS
        return func(*args, **(kwargs or {}))


def _by_mask(indices: Any) -> bool:
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in indices)
