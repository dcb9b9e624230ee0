"""The cost of each method: CPU seconds for one checkpoint on one thread, which other programs hardly affect."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import ours
import peers
from measure import ESTIMATORS, with_blends
from setting import FOLDER, Setting

from trak_cli.config.estimators import shipped_estimators
from trak_cli.config.load import load
from trak_cli.stages.featurize import featurize
from trak_cli.stages.train import train
from trak_cli.types import Silent

Costs = dict[str, float]


def known_costs(setting: Setting, with_peers: bool, blends: Sequence[int]) -> Costs:
    """CPU seconds by label (and "train" and "blend"), from the file of the setting; missing ones are measured."""
    path = setting.root / "bench" / "costs.json"
    costs: Costs = json.loads(path.read_text()) if path.exists() else {}
    missing = not {"train", "blend"} <= costs.keys()
    missing |= with_peers and not set(peers.available()) <= {label.split(",")[0] for label in costs}
    if missing:
        print(f"{setting.name}: costs", file=sys.stderr, flush=True)
        costs |= _ours(setting) | (_peers(setting) if with_peers else {})
        path.write_text(json.dumps(costs, indent=1))
    return costs | {with_blends(ESTIMATORS[0], number): costs[ESTIMATORS[0]] + number * costs["blend"] for number in blends}


def _ours(setting: Setting) -> Costs:
    """Costs of training, and of features and scores of a checkpoint and its blends."""
    with tempfile.TemporaryDirectory() as folder:
        asked = [f"name={setting.name}", "train.count=1", "gradients=hooks", "gradients.microbatch=64"]
        trained = [f"store={folder}", f"checkpoints={folder}/checkpoints/*.safetensors"]
        costs = {"train": _cpu(lambda: train(load("train", setting.name, FOLDER, [*asked, *trained]), Silent()))}
        features = {}
        for second in ("null", "false"):  # not every estimator has a use for the features of terms or other classes
            without = [f"gradients.terms={second}", f"gradients.classes={second}"]
            loaded = load("featurize", setting.name, FOLDER, [*asked, f"store={folder}/{second}", trained[1], *without])
            features[second] = _cpu(lambda o=loaded: featurize(o, Silent()))
        ensemble = [f"store={folder}/null", trained[1], "ensemble.kind=fresh", "ensemble.members=1"]
        one_blend = _cpu(lambda: featurize(load("featurize", setting.name, FOLDER, [*asked, *ensemble]), Silent()))
    for name in ESTIMATORS:
        spec = shipped_estimators()[name]
        made = features["null" if spec.uses_curvature else "false"]
        costs[name] = made + _cpu(lambda s=spec: list(ours.scores(setting, s, (1,))))
    return costs | {"blend": one_blend + costs[ESTIMATORS[0]] - features["null"]}


def _peers(setting: Setting) -> Costs:
    """Costs of other libraries. All variants of a library get the cost of its default."""
    costs: Costs = {}
    for name, run in peers.available().items():
        if not peers.takes(name, setting):
            costs[name] = float("nan")
            continue
        results, seconds = run(setting, (1,))
        for variant in {key.rpartition("-")[0] for key in results}:
            costs[f"{name}, {variant}" if variant else name] = seconds
    return costs


def _cpu(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
