"""How much memory tensors take while something is computed."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Bytes of a tensor and of a node of a graph beside its numbers.
_OBJECTS = 1024


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, the memory of new tensors is counted from their creation until they are freed, in backward passes too.

    Attributes:
        live: bytes that exist now.
        peak: the largest ``live`` so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch imports its compiler at the first operator, which takes a second

    def restart(self) -> None:
        """Let the peak start again from what exists now."""
        self.peak = self.live

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf)
        return result

    def _add(self, tensor: Tensor) -> None:
        if tensor.is_sparse:
            tensor = tensor._values()
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._known:
            return
        self._known[address] = size = storage.nbytes() + _OBJECTS
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._remove, address).atexit = False

    def _remove(self, address: int) -> None:
        self.live -= self._known.pop(address)


def trim() -> None:
    """Give memory that is free, but still belongs to the process, back to the system, where the C library can."""
    if sys.platform == "linux":
        release = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if release is not None:
            release(0)
