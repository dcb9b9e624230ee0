"""The default with members that are blended from a checkpoint and fresh initial weights (``ensemble.kind=fresh``).

python scripts/lds/fresh.py [SETTING ...] [--share 0.25] [--checkpoints 10] [--starts 3] [--most 16]      after `make lds`

Updates docs/results/fresh_members.csv, one row for each setting and share of fresh variance: the LDS of the first checkpoint,
without members and with 4 and 16; the means over the first three checkpoints, each with its own members; and all checkpoints
together, without members and with four each. ``ekfac``: EK-FAC with ten checkpoints and the best of three dampings, as
`make lds` measured it. Empty cells were not measured (``--checkpoints 0``, ``--most 4``). What a setting lacks is computed once
and kept in runs/lds/fresh.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from kernels import open_any, truth
from ours import Part, part, together
from projected import projected
from reference import Reference, reference_settings
from setting import FOLDER, UNTUNED, Features, Setting, names
from tables import best_ekfac, read_csv

from trak_cli.attribution.estimator.weights import ClassRows
from trak_cli.attribution.lds.lds import lds_of_predictions, subset_predictions
from trak_cli.config.estimators import shipped_estimators
from trak_cli.config.load import load as load_config
from trak_cli.config.schema import TrakConfig
from trak_cli.plugins.checkpoints.derived import derive
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.plugins.checkpoints.member import SCALES, Member
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.stages.featurize import featurize
from trak_cli.types import Silent

Array = np.ndarray[Any, Any]

RESULTS = Path("docs/results")
CACHE = Path("runs/lds/fresh")
SPEC = shipped_estimators()["early_training"]
FEW, MANY = 4, 16
ROWS = ("alone", "few", "many", "together", "together_few")
COLUMNS = ("setting", "share", "ekfac", "first", "first_few", "first_many", *ROWS)


class Bench:
    """One setting, with the parts of every checkpoint and member that were needed so far."""

    def __init__(self, name: str, share: float) -> None:
        self.share = share
        self.of = open_any(name)
        self.masks, self.outputs = truth(name)
        self._known: dict[tuple[int, int], Part] = {}

    def lds(self, wanted: Sequence[tuple[int, int]]) -> float:
        """LDS of some (checkpoint, member) together; member 0 is the checkpoint itself."""
        parts = [self._part(*one) for one in wanted]
        return lds_of_predictions(subset_predictions(together(parts, SPEC), self.masks), self.outputs).mean

    def _part(self, checkpoint: int, member: int) -> Part:
        if (checkpoint, member) not in self._known:
            features = _of_reference if isinstance(self.of, Reference) else _of_setting
            self._known[checkpoint, member] = part(features(self.of, checkpoint, member, self.share), SPEC)  # type: ignore[arg-type]
        return self._known[checkpoint, member]

    def make(self, checkpoints: int, members: int) -> None:
        """Compute the features of a setting that are missing."""
        if isinstance(self.of, Setting):
            files = ",".join(str(self.of.checkpoint_file(name).absolute()) for name in self.of.checkpoints[:checkpoints])
            options = [f"store={_store(self.of, self.share).root}", f"checkpoints=[{files}]"]
            ensemble = [f"ensemble.members={members}", "ensemble.kind=fresh", f"ensemble.scale={self.share}"]
            featurize(load_config("featurize", self.of.name, FOLDER, [*options, *ensemble]), Silent())


def _store(setting: Setting, share: float) -> Setting:
    return Setting(setting.name, setting.root.absolute() / f"fresh_{share:g}")


def _of_setting(setting: Setting, checkpoint: int, member: int, share: float) -> Features:
    name = setting.checkpoints[checkpoint]
    return _store(setting, share).features(f"{name}{_member(member, share).suffix}" if member else name)


@lru_cache(maxsize=2)  # the checkpoint, for its members
def _of_reference(reference: Reference, checkpoint: int, member: int, share: float) -> Features:
    model, task, batches, files = reference.parts()
    path = files[checkpoint]
    apply(model, load(path), path)
    digest, default = sha256(path), TrakConfig().projection
    kinds = [(default.kind, default.dim, default.nonzeros)]
    if not member:
        return next(projected(model, task, batches, digest, kinds, 1))[1]
    own = _of_reference(reference, checkpoint, 0, share)
    chosen = _member(member, share)
    derive(model, chosen, chosen.digest(digest), type(model))
    ((_, found),) = projected(model.eval(), task, batches, chosen.digest(digest), kinds, 1)
    assert isinstance(found.curvature, ClassRows)
    assert isinstance(own.curvature, ClassRows)
    curvature = ClassRows(found.curvature.features, own.curvature.residuals)
    return replace(found, out_to_loss=own.out_to_loss, outputs=own.outputs, curvature=curvature)


def _member(index: int, share: float) -> Member:
    return Member("fresh", share, 0, index)


def measured(name: str, share: float, checkpoints: int, starts: int, most: int) -> dict[str, list[float]]:
    """LDS of every row, for each starting checkpoint or of all checkpoints; no row without its checkpoints or members."""
    path = CACHE / f"{name}-{share:g}.json"
    if not path.exists():
        print(name, file=sys.stderr, flush=True)
        bench = Bench(name, share)
        bench.make(max(checkpoints, starts), FEW)
        bench.make(starts, most)
        rows = {
            label: [bench.lds([(start, member) for member in range(count + 1)]) for start in range(starts)]
            for label, count in zip(ROWS[:3], (0, FEW, MANY), strict=True)
            if count <= most
        }
        for label, count in zip(ROWS[3:], (0, FEW), strict=True):
            every = [(one, member) for one in range(checkpoints) for member in range(count + 1)]
            rows |= {label: [bench.lds(every)]} if every else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
    return dict(json.loads(path.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", default=[*names(), *reference_settings(), *UNTUNED])
    parser.add_argument("--share", type=float, default=SCALES["fresh"])
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--most", type=int, default=MANY, choices=(FEW, MANY))
    arguments = parser.parse_args()
    best, path = best_ekfac(RESULTS / "lds.csv"), RESULTS / "fresh_members.csv"
    asked = {(name, f"{arguments.share:g}") for name in arguments.settings}
    rows = [row for row in read_csv(path) if (row["setting"], row["share"]) not in asked] if path.exists() else []
    for name in arguments.settings:
        found = measured(name, arguments.share, arguments.checkpoints, arguments.starts, arguments.most)
        numbers = [best.get(name), *(found.get(label, [None])[0] for label in ROWS[:3])]
        numbers += [float(np.mean(found[label])) if label in found else None for label in ROWS]
        shown = ["" if number is None else f"{number:.3f}" for number in numbers]
        of = [name, f"{arguments.share:g}"]
        rows.append(dict(zip(COLUMNS, [*of, *shown], strict=True)))
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        out.writeheader()
        out.writerows(rows)


if __name__ == "__main__":
    main()
