"""The kept states of the forward pass on disk, from which a killed run goes on.

A state is a function of the run and of the number of the step, so that a call with another budget, and every other worker,
can use the files too.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from trak_cli.errors import StoreError
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.unrolling.packing import packed, unpacked
from trak_cli.store.atomic_write import remove
from trak_cli.store.container import read_image
from trak_cli.store.fingerprint import require_same
from trak_cli.store.publish import write_image
from trak_cli.types import Json
from trak_cli.unrolling.sweep_state import as_array


@dataclass
class StateFiles:
    """States of one run. Nothing is written as long as the pass takes less than ``seconds``.

    Attributes:
        folder: of the files.
        fingerprint: of the run.
        seconds: least time between two saves.
    """

    folder: Path
    fingerprint: Json
    seconds: float
    _saved: float = field(default_factory=time.monotonic)
    _waiting: dict[int, Mapping[str, Tensor]] = field(default_factory=dict)
    _latest: int | None = None
    _some: bool = False

    def steps(self) -> Collection[int]:
        """The number of steps before each stored state."""
        return sorted(int(path.stem.removeprefix("state_")) for path in self.folder.glob("state_*.h5"))

    def load(self, step: int, like: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """A stored state; None if it is damaged or of another run, and then its file is removed."""
        path = self._path(step)
        try:
            image = read_image(path)
            require_same(path, image.fingerprint, self._fingerprint(step))
            arrays = unpacked(image.arrays["layout"], image.arrays["values"])
        except (StoreError, LookupError):
            if path.exists():
                remove(path)
            return None
        self._some = True
        values = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        return {name: values[name].to(value.device, value.dtype) for name, value in like.items()}

    def offer(self, step: int, state: Mapping[str, Tensor], kept: bool) -> None:
        """Store the kept states so far, and this one, if the last save is long ago; the last one too, if others are stored."""
        if kept:
            self._waiting[step] = state
        if time.monotonic() - self._saved < self.seconds:
            return
        before, self._latest = self._latest, None if kept else step
        for number, waiting in {**self._waiting, step: state}.items():
            self._write(number, waiting)
        if before is not None and before != step:
            remove(self._path(before))
        self._waiting.clear()
        self._saved, self._some = time.monotonic(), True

    def finish(self) -> None:
        """Store what waits, if the pass was long enough for other states to be stored."""
        if self._some:
            for number, waiting in self._waiting.items():
                self._write(number, waiting)
        self._waiting.clear()

    def remove(self) -> None:
        """Delete all files."""
        for step in self.steps():
            remove(self._path(step))

    def _write(self, step: int, state: Mapping[str, Tensor]) -> None:
        arrays = {name: as_array(value) for name, value in state.items()}
        write_image(self._path(step), packed(arrays), self._fingerprint(step), provenance(), overwrite=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"state_{step}.h5"

    def _fingerprint(self, step: int) -> Json:
        return {**self.fingerprint, "kind": "state", "step": step}
