"""One setting of the benchmark: run its missing stages and read its store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.attribution.estimator.weights import ClassRows, CurvatureRows, Terms
from trak_cli.config.load import Loaded
from trak_cli.config.load import load as load_config
from trak_cli.stages.index.fingerprints import curvature_of
from trak_cli.store.container import read_image
from trak_cli.store.json_files import read_json
from trak_cli.store.layout import Layout
from trak_cli.store.shards import read_features
from trak_cli.store.virtual import read_scores
from trak_cli.types import evenly_spaced

FOLDER = Path(__file__).parent
SPLIT = "test"

_COLUMNS = ("features", "outputs", "out_to_loss", "term_features", "terms", "class_features", "residuals")

#: The two protocols. Halves: models of other seeds, retrained on random halves of the training set. This run: the run of one
#: checkpoint again, with its own seed, order and random states, where 1 % of the samples have weight 0.
HALVES, THIS_RUN = "halves", "this run"
#: Of "this run": retrainings, and the largest number of targets. Exact unrolling costs up to three trainings for a target.
RUN_SUBSETS, RUN_TARGETS = 50, 16

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Features:
    """Of one checkpoint: X (n, k), T (t, k), and q and f (n,) of the training samples; their terms or other classes, if any."""

    train: Array
    targets: Array
    out_to_loss: Array
    outputs: Array
    curvature: CurvatureRows = None


@dataclass(frozen=True)
class Setting:
    """A complete store: checkpoints, their features and the retrained models.

    Attributes:
        name: of its configuration.
        root: folder of the store.
        protocol: of its retrained models, :data:`HALVES` or :data:`THIS_RUN`.
        subsets: how many are evaluated; None for as many as the configuration says. A store may hold more.
    """

    name: str
    root: Path
    protocol: str = HALVES
    subsets: int | None = None

    @cached_property
    def loaded(self) -> Loaded:
        return load_config("featurize", self.name, FOLDER, [f"store={self.root}"] if self.protocol == THIS_RUN else [])

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    @property
    def given(self) -> Path:
        """File of a published ground truth, if there is one; see published.py."""
        return self.root / "truth.npz"

    @cached_property
    def checkpoints(self) -> list[str]:
        """In the order in which they were trained."""
        return sorted(self.layout.checkpoints(), key=lambda name: int(name.split("_")[1].split("-")[0]))

    def checkpoint_file(self, name: str) -> Path:
        return self.root / "checkpoints" / f"{name.rsplit('-', 1)[0]}.safetensors"

    def features(self, checkpoint: str) -> Features:
        parts = {}
        for split in ("train", SPLIT):
            shards = [read_features(self.layout.features(checkpoint, split, i)) for i in self.layout.shards(checkpoint, split)]
            keys = [key for key in _COLUMNS if getattr(shards[0], key) is not None]
            parts[split] = {key: np.concatenate([getattr(shard, key) for shard in shards]) for key in keys}
        train = parts["train"]
        curvature: CurvatureRows = Terms(train["term_features"], train["terms"]) if "terms" in train else None
        if "residuals" in train:
            curvature = ClassRows(train["class_features"], train["residuals"])
        return Features(train["features"], parts[SPLIT]["features"], train["out_to_loss"], train["outputs"], curvature)

    @property
    def curvature(self) -> str | None:
        """What training samples have besides features: "terms", "classes" or nothing."""
        return curvature_of(read_json(self.layout.fingerprint(self.checkpoints[0])))

    @cached_property
    def truth(self) -> tuple[Array, Array]:
        """Masks (s, n) and the outputs of every model that was trained on a subset, (s, models, targets): retrained or given.

        The targets are those of ``target_rows``.
        """
        if self.given.exists():
            with np.load(self.given) as arrays:
                return arrays["masks"] > 0, arrays["outputs"]
        run, key = (0, "weights") if self.protocol == THIS_RUN else (None, "mask")
        subsets = self.layout.retrained_subsets(run)[: self.subsets or _subsets(self.name, self.protocol)]
        images = [read_image(self.layout.retrained(subset, run)).arrays for subset in subsets]
        outputs = np.stack([one[f"outputs_{SPLIT}"] for one in images])
        return np.stack([one[key] for one in images]) > 0, outputs[:, :, self.target_rows]

    @cached_property
    def target_rows(self) -> Array:
        """The rows of the split that are evaluated: all, or a few where a method costs trainings for each."""
        shards = self.layout.shards(self.checkpoints[0], SPLIT)
        rows = sum(len(read_features(self.layout.features(self.checkpoints[0], SPLIT, i)).outputs) for i in shards)
        return evenly_spaced(rows, RUN_TARGETS if self.protocol == THIS_RUN else rows)


#: Settings that run only if they are named; SLOW ones also with --all. LARGE ones have one protocol.
SLOW, LARGE = ("patches", "vit", "noisy", "source"), ("cifar10",)

#: Settings that no choice of the default was made on (stand_ins.py); they run only if they are named.
UNTUNED = ("bn_resnet", "bn_deep", "fitted_countries", "fitted_functions", "adamw_text", "adamw_names")


def names(slow: bool = True) -> list[str]:
    """The settings of the small tier, with or without the slow ones, in the order of their cost."""
    tables = ["iris", "wine", "travel", "schools", "eights", "cancer", "votes", "affairs", "visits", "functions", "lines"]
    order = [*tables, "words", "diabetes", "digits_mlp", "digits_cnn", "patches", "docstrings", "vit", "noisy", "source"]
    order += ["mnist_lenet", "reviews", "chorales", "mnist_mlp"]
    present = {path.stem for path in FOLDER.glob("*.yaml")} - {"common", *LARGE, *UNTUNED, *(() if slow else SLOW)}
    return [name for name in order if name in present] + sorted(present - set(order))


def open_setting(name: str) -> Setting:
    """Open a setting that :func:`prepare` has prepared."""
    return Setting(name, Path("runs/lds") / name)


def make_data() -> None:
    """Write the missing data of all settings."""
    subprocess.run([sys.executable, str(FOLDER / "data.py"), "runs/lds/data"], check=True)


def missing_data(name: str) -> bool:
    """Whether a setting lacks its data after :func:`make_data`."""
    path = load_config("train", name, FOLDER, []).config.dataset.train.get("path")
    return path is not None and not Path(path).exists()


def prepare(name: str, workers: int) -> Setting:
    """Run the missing stages of a setting, after :func:`make_data`. An interrupted stage is resumed."""
    setting = open_setting(name)
    count = load_config("train", name, FOLDER, []).config.train.count
    if len(list((setting.root / "checkpoints").glob("*.safetensors"))) < count:
        _trak("train", name)
    if len(setting.layout.checkpoints()) < count:
        _trak("featurize", name)
    if not setting.given.exists() and len(setting.layout.retrained_subsets()) < _subsets(name, HALVES):
        _trak("retrain", name, workers)
    return setting


def this_run(name: str, workers: int) -> Setting:
    """The store of the protocol "this run": one checkpoint, its features, and the same run without 1 % of the samples."""
    run = Setting(name, open_setting(name).root / "this_run", THIS_RUN)
    store = f"store={run.root}"
    if not (run.root / "checkpoints").exists():
        _trak("train", run.name, options=(store, "train.count=1"))
    if not run.layout.checkpoints():
        _trak("featurize", run.name, options=(store,))
    if len(run.layout.retrained_subsets(0)) < RUN_SUBSETS:
        protocol = ("retrain.same_seed=true", "retrain.drop=0.01", "retrain.models_per_subset=1")
        _trak("retrain", run.name, workers, (store, f"retrain.subsets={RUN_SUBSETS}", *protocol))
    return run


def _subsets(name: str, protocol: str) -> int:
    """How many subsets a setting has; a store that holds more of them may stem from a longer run."""
    return RUN_SUBSETS if protocol == THIS_RUN else load_config("retrain", name, FOLDER, []).config.retrain.subsets


def blended(setting: Setting, members: int) -> Setting:
    """A store with the first checkpoint and ``members`` blends of it with fresh weights."""
    derived = Setting(setting.name, setting.root / "blended")
    file = setting.checkpoint_file(setting.checkpoints[0])
    options = (f"store={derived.root}", f"checkpoints={file}", f"ensemble.members={members}", "ensemble.kind=fresh")
    _trak("featurize", setting.name, options=options)  # computes what is missing
    return derived


def scores_of_targets(setting: Setting, stage: str) -> Array:
    """Scores (targets, n) of the target rows by ``trak unroll`` or ``trak refine``, whose cost grows with the targets."""
    store, targets = f"store={setting.root}", f"{stage}.targets={setting.target_rows.tolist()}"
    if stage == "refine":
        _trak("finalize", setting.name, options=(store,))
    # The retrained models are a better check of unrolling than its own.
    _trak(stage, setting.name, options=(store, targets, "refine.name=refine" if stage == "refine" else "unroll.removals=0"))
    scores: Array = read_scores(setting.layout.scores(stage, SPLIT))
    return scores


def _trak(stage: str, name: str, workers: int = 1, options: Sequence[str] = ()) -> None:
    base = [sys.executable, "-m", "trak_cli", stage, "-d", str(FOLDER), "-n", name, *options]
    shares = [[*base, f"worker.index={i}", f"worker.count={workers}"] for i in range(workers)]
    print(f"{name}: trak {stage}", file=sys.stderr, flush=True)
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in shares]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit(f"trak {stage} failed for {name}")
