"""Whether shapes, or the order of samples, may depend on the content of samples: detected from a model's operations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from trak_cli.batches import batch_size, leaves

#: Methods that read a tensor's values without an operator.
_READERS = {Tensor.tolist, Tensor.numpy, Tensor.__array__}


#: Operators that order the entries of a vector.
_SORTS = {torch.ops.aten.sort.default, torch.ops.aten.sort.stable, torch.ops.aten.topk.default}


class Watch:
    """While entered, records what the model has done so far.

    Attributes:
        cut: it has used an operator whose output shape depends on values, such as selecting rows by a mask.
        read: it has read values into Python, where they may become sizes; True from the start if the batch holds lists.
        moved: it has sorted something by sample, or taken samples by number, so that they may be in another order than in the
            batch. A dimension is taken to be that of the samples if it comes first and has their number.
    """

    def __init__(self, batch: Any) -> None:
        self.size = batch_size(batch)
        self.cut = self.moved = False
        self.read = any(isinstance(leaf, list | tuple) for _, leaf in leaves(batch))
        self._modes = ExitStack()

    def __enter__(self) -> Watch:
        operations = _OperationsOfCompiled if "torch._dynamo" in sys.modules else _Operations
        for mode in (operations(self), _Methods(self)):
            self._modes.enter_context(mode)
        return self

    def __exit__(self, *exception: object) -> None:
        self._modes.close()


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, watch: Watch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watch = watch

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch imports its compiler at the first operator, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.dynamic_output_shape in func.tags:
            self._watch.cut |= func is not torch.ops.aten.index.Tensor or _by_mask(args[1])
        if torch.Tag.data_dependent_output in func.tags:
            self._watch.read = True
        self._watch.moved |= self._moves(func, args)
        return func(*args, **(kwargs or {}))

    def _moves(self, func: Any, args: Any) -> bool:
        if not (args and isinstance(args[0], Tensor) and args[0].dim() and len(args[0]) == self._watch.size):
            return False
        if func is torch.ops.aten.index.Tensor:
            (index, *others) = args[1]
            return isinstance(index, Tensor) and index.shape == args[0].shape[:1] and all(other is None for other in others)
        if func is torch.ops.aten.select.int:  # one sample after another, in an order that Python may have computed
            return self._watch.read and args[1] == 0
        return (func in _SORTS and args[0].dim() == 1) or (func is torch.ops.aten.index_select.default and args[1] == 0)


class _OperationsOfCompiled(_Operations):  # type: ignore[no-untyped-call]
    """The same if the compiler is imported, and may compile parts of the model: PyTorch keeps it out of the method."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_dispatch__(func, types, args, kwargs)


class _Methods(TorchFunctionMode):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._watch.read |= func in _READERS
        return func(*args, **(kwargs or {}))


def _by_mask(indices: Any) -> bool:
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in indices)
