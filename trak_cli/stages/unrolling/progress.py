"""The saved progress of a backward sweep, from which a killed run goes on.

Each target has a file of its own, so that saving needs memory for one target only. A JSON document with the digests of
these files is written last: it makes a new save valid.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trak_cli.errors import StoreError
from trak_cli.stages.index.provenance import provenance
from trak_cli.store.atomic_write import remove
from trak_cli.store.container import read_image
from trak_cli.store.fingerprint import require_same
from trak_cli.store.header import read_header
from trak_cli.store.json_files import read_json, replace_json
from trak_cli.store.publish import write_image
from trak_cli.types import Json, Reporter
from trak_cli.unrolling.sweep_state import SweepState

_Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass
class SweepFiles:
    """The files with the last saved state of one sweep; they are removed once the scores are stored.

    Attributes:
        path: the JSON document; the files of the targets lie beside it.
        fingerprint: of the scores, and which targets the sweep is of.
        targets: how many.
        seconds: least time between two saves.
    """

    path: Path
    fingerprint: Json
    targets: int
    seconds: float
    _saved: float = field(default_factory=time.monotonic)

    def load(self, reporter: Reporter) -> SweepState | None:
        """The saved state; None if there is none, or if it is damaged or of another run."""
        if not self.path.exists():
            return None
        try:
            document = read_json(self.path)
            parts = [self._read(document["step"], target, document["contents"]) for target in range(self.targets)]
        except (StoreError, LookupError):
            reporter.log(f"{self.path} is damaged or of another run: the sweep starts again")
            self.remove()
            return None
        adjoint = {name: torch.cat([part.adjoint[name] for part in parts]) for name in parts[0].adjoint}
        return SweepState(parts[0].step, adjoint, torch.cat([part.derivative for part in parts]))

    def save_if_due(self, state: SweepState) -> None:
        """Save the state if the last save is long ago."""
        if time.monotonic() - self._saved < self.seconds:
            return
        before = self._parts()
        contents = []
        for target in range(self.targets):
            only = slice(target, target + 1)
            adjoint = {name: value[only] for name, value in state.adjoint.items()}
            arrays = SweepState(state.step, adjoint, state.derivative[only]).arrays()
            path = self._part(state.step, target)
            write_image(path, _packed(arrays), self._fingerprint(state.step, target), provenance(), overwrite=True)
            contents.append(read_header(path).content)
        replace_json(self.path, {"step": state.step, "contents": contents})
        for path in before - {self._part(state.step, target) for target in range(self.targets)}:
            remove(path)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Delete all files."""
        for path in [self.path, *sorted(self._parts())]:
            if path.exists():
                remove(path)

    def _read(self, step: int, target: int, contents: list[str]) -> SweepState:
        image = read_image(self._part(step, target))
        require_same(image.path, image.fingerprint, self._fingerprint(step, target))
        if image.content != contents[target]:
            raise LookupError(image.path)
        return SweepState.from_arrays(_unpacked(image.arrays["layout"], image.arrays["values"]))

    def _part(self, step: int, target: int) -> Path:
        return self.path.with_name(f"{self.path.stem}_{step}_{target}.h5")

    def _parts(self) -> set[Path]:
        return set(self.path.parent.glob(f"{self.path.stem}_*.h5"))

    def _fingerprint(self, step: int, target: int) -> Json:
        return {**self.fingerprint, "step": step, "target": target}


def _packed(arrays: _Arrays) -> _Arrays:
    """All arrays one after another as bytes, and their names, dtypes and shapes as JSON: a file holds few datasets."""
    stored = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    layout = [[name, array.dtype.str, list(array.shape)] for name, array in stored.items()]
    values = [array.reshape(-1).view(np.uint8) for array in stored.values()]
    return {"layout": np.frombuffer(json.dumps(layout).encode(), np.uint8), "values": np.concatenate(values)}


def _unpacked(layout: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> _Arrays:
    arrays, start = {}, 0
    for name, dtype, shape in json.loads(layout.tobytes()):
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        arrays[name] = np.frombuffer(values[start : start + size].tobytes(), dtype).reshape(shape)
        start += size
    return arrays
