"""The saved progress of a backward sweep, from which a killed run goes on.

Each target has a file of its own, so that saving needs memory for one target only. A JSON document with the digests of
these files is written last: it makes a new save valid.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from trak_cli.errors import StoreError
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.unrolling.packing import packed, unpacked
from trak_cli.store.atomic_write import remove
from trak_cli.store.container import read_image
from trak_cli.store.fingerprint import require_same
from trak_cli.store.header import read_header
from trak_cli.store.json_files import read_json, replace_json
from trak_cli.store.publish import write_image
from trak_cli.types import Json, Reporter
from trak_cli.unrolling.sweep_state import SweepState


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
            return self._joined(document["step"], document["contents"])
        except (StoreError, LookupError):
            reporter.log(f"{self.path} is damaged or of another run: the sweep starts again")
            self.remove()
            return None

    def _joined(self, step: int, contents: list[str]) -> SweepState:
        """The saved targets together; one file is read at a time."""
        joined: SweepState | None = None
        for target in range(self.targets):
            part = self._read(step, target, contents)
            if joined is None:
                adjoint = {name: value.new_empty((self.targets, *value.shape[1:])) for name, value in part.adjoint.items()}
                joined = SweepState(part.step, adjoint, part.derivative.new_empty((self.targets, part.derivative.shape[1])))
            for name, value in part.adjoint.items():
                joined.adjoint[name][target] = value[0]
            joined.derivative[target] = part.derivative[0]
        if joined is None:
            raise LookupError(self.path)
        return joined

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
            write_image(path, packed(arrays), self._fingerprint(state.step, target), provenance(), overwrite=True)
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
        return SweepState.from_arrays(unpacked(image.arrays["layout"], image.arrays["values"]))

    def _part(self, step: int, target: int) -> Path:
        return self.path.with_name(f"{self.path.stem}_{step}_{target}.h5")

    def _parts(self) -> set[Path]:
        return set(self.path.parent.glob(f"{self.path.stem}_*.h5"))

    def _fingerprint(self, step: int, target: int) -> Json:
        return {**self.fingerprint, "step": step, "target": target}
