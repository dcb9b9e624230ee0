"""The LDS gain of derived ensemble members, compared with trained checkpoints.

Run `make lds` first (it trains and retrains), then, for some of its settings:

    python scripts/bench_ensembles.py cancer diabetes digits_mlp digits_cnn --out runs/ensembles

For two checkpoints of each setting it prints the LDS of the default estimator with the checkpoint alone, with four derived
members of each kind, with four snapshots of its training, with four retrained last layers, and with up to ten trained
checkpoints. The gain over the checkpoint alone has a 95 % interval. Costs are CPU seconds: for the features of a member
(training and target samples), for training a checkpoint, and for training a last layer.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "lds"
sys.path.insert(0, str(FOLDER))

from ours import Part, part, together  # noqa: E402
from setting import Setting, open_setting  # noqa: E402

from trak_cli.attribution.lds.bootstrap import Bootstrap, Comparison, compare  # noqa: E402
from trak_cli.attribution.lds.lds import subset_predictions  # noqa: E402
from trak_cli.config.estimators import shipped_estimators  # noqa: E402
from trak_cli.config.load import load  # noqa: E402
from trak_cli.stages.featurize import featurize  # noqa: E402
from trak_cli.stages.inputs.plugins import make_model  # noqa: E402
from trak_cli.stages.train import train  # noqa: E402
from trak_cli.types import Silent  # noqa: E402

Array = np.ndarray[Any, Any]

SPEC = shipped_estimators()["early_training"]
BASES, CHEAP, REAL = 2, 4, (1, 2, 5, 10)
ALONE = "1 alone"
#: First seed of the retrained last layers; no checkpoint has it, so no layer restarts from its own initial weights.
HEADS_FROM = 1000
#: The first kind is a control: the weights stay (almost) the same, and only the random matrix differs.
KINDS = (
    ("noise", 1e-06),
    *(("noise", scale) for scale in (0.03, 0.1, 0.3, 0.6)),
    *(("dropout", scale) for scale in (0.1, 0.3)),
    *(("mask", scale) for scale in (0.03, 0.1, 0.2, 0.3)),
    ("fresh", 0.5),
)


class Bench:
    """One setting. Missing features are computed, and each checkpoint is scored once."""

    def __init__(self, setting: Setting, out: Path) -> None:
        self.real = setting
        self.cheap = Setting(setting.name, out / setting.name)
        self.masks, outputs = setting.truth
        self.outputs = outputs.mean(axis=1)
        self.seconds: dict[str, float] = {}
        self._known: dict[str, Part] = {}

    def predictions(self, where: Setting, names: Sequence[str]) -> Array:
        """Return the sums of scores (t, s) of an ensemble."""
        return subset_predictions(together([self._part(where, name) for name in names], SPEC), self.masks)

    def _part(self, where: Setting, name: str) -> Part:
        if name not in self._known:
            self._known[name] = part(where.features(name), SPEC)
        return self._known[name]

    def make(self, label: str, checkpoints: Sequence[Path], *overrides: str) -> None:
        """Featurize checkpoints and the members derived from them, and record the CPU seconds."""
        files = ",".join(str(path) for path in checkpoints)
        fixed = [f"store={self.cheap.root}", f"checkpoints=[{files}]", "gradients=hooks", "gradients.microbatch=32"]
        start = time.process_time()
        featurize(load("featurize", self.real.name, FOLDER, [*fixed, *overrides]), Silent())
        self.seconds[label] = time.process_time() - start

    def train(self) -> list[Path]:
        """Train the first checkpoints again, with snapshots, and return the files of the snapshots."""
        epochs = int(self.real.loaded.config.trainer.get("epochs", 15))
        every = max(1, epochs // (CHEAP + 1))
        overrides = [f"store={self.cheap.root}", f"train.count={BASES}", f"train.snapshots={every}"]
        start = time.process_time()
        train(load("train", self.real.name, FOLDER, overrides), Silent())
        self.seconds["train"] = (time.process_time() - start) / BASES
        return sorted((self.cheap.root / "checkpoints").glob("*_epoch_*.safetensors"))

    def train_heads(self, files: Sequence[Path]) -> list[Path]:
        """Retrain the last layer of each of these checkpoints a few times, with the rest fixed, and return the files."""
        *_, (last, _) = make_model(self.real.loaded.config).named_parameters()
        layer = f"parameters.include=[{last.rsplit('.', 1)[0]}.*]"
        fixed = [f"store={self.cheap.root}", f"train.count={CHEAP}", f"seed={HEADS_FROM}", "train.only_parameters=true", layer]
        start = time.process_time()
        for file in files:
            train(load("train", self.real.name, FOLDER, [*fixed, f"train.start={file}"]), Silent())
        self.seconds["train a last layer"] = (time.process_time() - start) / (len(files) * CHEAP)
        return sorted((self.cheap.root / "checkpoints").glob("*_part_*.safetensors"))


def measure(bench: Bench) -> dict[str, dict[str, Array]]:
    """Return label -> predictions (t, s) for each base checkpoint. Those of trained checkpoints are the same for each."""
    files = [bench.real.checkpoint_file(name) for name in bench.real.checkpoints[:BASES]]
    bench.make("features", files)
    bench.seconds["features"] /= BASES
    for kind, scale in KINDS:
        overrides = [f"ensemble.members={CHEAP}", f"ensemble.kind={kind}", f"ensemble.scale={scale}"]
        bench.make(f"{kind} {scale}", files, *overrides)
    bench.make("snapshots", bench.train())
    bench.make("last layers", bench.train_heads(files))
    names = bench.cheap.layout.checkpoints()
    real = {f"{count} trained": bench.predictions(bench.real, bench.real.checkpoints[:count]) for count in REAL}
    predictions: dict[str, dict[str, Array]] = {}
    for base in bench.real.checkpoints[:BASES]:
        of_base = {ALONE: bench.predictions(bench.cheap, [base])}
        for kind, scale in KINDS:
            members = [name for name in names if name.startswith(f"{base}+{kind}{scale!r}.")]
            of_base[f"1 + {CHEAP} {kind} {scale}"] = bench.predictions(bench.cheap, [base, *members])
        number = base.split("_")[1].split("-")[0]
        snapshots = [name for name in names if name.startswith(f"full_{number}_epoch_")]
        snapshots = [name for name in snapshots if name[-8:] != base[-8:]]  # the last one may be the checkpoint itself
        last = sorted(snapshots, key=lambda name: int(name.split("_epoch_")[1].split("-")[0]))[-CHEAP:]
        of_base[f"1 + {CHEAP} snapshots"] = bench.predictions(bench.cheap, [base, *last])
        heads = [name for name in names if name.startswith(f"full_{number}_part_")]
        of_base[f"1 + {CHEAP} last layers"] = bench.predictions(bench.cheap, [base, *heads])
        predictions[base] = of_base | real
    return predictions


def report(bench: Bench) -> dict[str, Any]:
    """Return for each label the LDS and its gain over the checkpoint alone, as means over the base checkpoints.

    Low and high are means of the ends of 95 % intervals, which is conservative for a mean.
    """
    tables = [compare(predictions, bench.outputs, Bootstrap(1000)) for predictions in measure(bench).values()]
    rows = {}
    for label in tables[0].sets:
        lds = float(np.mean([table.sets[label].estimate for table in tables]))
        rows[label] = {"lds": lds}
        if label != ALONE:
            gains = np.array([_gain(table, label) for table in tables])
            rows[label] |= dict(zip(("gain", "low", "high"), gains.mean(axis=0).tolist(), strict=True)) | {
                "each": gains.tolist()
            }
    return {"setting": bench.real.name, "rows": rows, "cpu_seconds": bench.seconds}


def _gain(table: Comparison, label: str) -> tuple[float, float, float]:
    """Return the LDS of a label minus that of the checkpoint alone, with its interval."""
    (interval,) = [d.interval for d in table.differences if (d.first, d.second) == (ALONE, label)]
    return -interval.estimate, -interval.high, -interval.low


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("runs/ensembles"))
    arguments = parser.parse_args()
    for name in arguments.settings:
        results = report(Bench(open_setting(name), arguments.out.resolve()))
        (arguments.out / f"{name}.json").write_text(json.dumps(results, indent=1))
        print(name, json.dumps(results["cpu_seconds"]))
        for label, row in results["rows"].items():
            gain = "" if label == ALONE else f"  {row['gain']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            print(f"  {label:<24}{row['lds']:.3f}{gain}", flush=True)


if __name__ == "__main__":
    main()
