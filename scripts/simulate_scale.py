"""How long, how large and how expensive is a run on 1 to 10,000 GPUs? A simulation fed by measured rates.

python scripts/simulate_scale.py            writes docs/results/scaling*.csv, docs/scaling.png and docs/scaling_cost.png

Every GPU is a process of featurize: it reads the samples of its next block while it computes, and then writes the shards of
the block. All of them share storage of limited bandwidth and one metadata server, which creates files and lists folders. A GPU
that fails loses the shard it works on, waits for a restart, lists what is stored and goes on. finalize and score read the
features back on the CPU cores of the same machines.

Rates are in docs/results/scale_rates.csv, and samples a second in featurize_gpu.csv. Needs simpy and matplotlib (extra dev).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simpy

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "results"

#: Blocks into which the work of a GPU is divided; a block has many shards.
BLOCKS = 12
#: Transfers that storage serves at a time, each at an equal share of its bandwidth.
CHANNELS = 64

#: Operations of the metadata server for a shard: create, link and remove a name, and twice write a folder.
OPERATIONS_OF_A_SHARD = 5
#: Shards are this many times as long with the changes for scale.
LONGER = 64

GPUS = (1, 10, 100, 1_000, 10_000)
K = 4096
#: Bytes of a feature, which is stored in float16 or bfloat16.
FEATURE_BYTES = 2

Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Work:
    """What is attributed.

    Attributes:
        model: row of featurize_gpu.csv.
        sample_bytes: read for each training sample.
        features: of a training sample: 2 with those of the loss's curvature beside those of f.
    """

    name: str
    model: str
    samples: int
    checkpoints: int
    sample_bytes: int
    targets: int
    features: int = 1

    @property
    def row_bytes(self) -> int:
        """Stored for each training sample and checkpoint."""
        return self.features * K * FEATURE_BYTES


@dataclass(frozen=True)
class Rates:
    """The rows of scale_rates.csv, and ``gpu``: samples that one GPU featurizes a second."""

    gpu: float
    finalize_flops: float
    score_flops: float
    score_row_seconds: float
    eigen_flops: float
    start_seconds: float
    shard_rows_measured: float
    cores_per_gpu: float
    link: float
    storage: float
    listing: float
    file_operations: float
    failure_hours: float
    restart_seconds: float
    gpu_hour: float
    gigabyte_month: float


WORK = (
    Work("ImageNet × 10", "ResNet-18", 1_281_167, 10, 110_000, 50_000, features=2),
    Work("100M captioned images", "CLIP ViT-B/32", 100_000_000, 1, 40_000, 10_000),
    Work("10¹⁰ text segments", "BERT-base", 10_000_000_000, 1, 1_024, 10_000, features=2),
)


@dataclass(frozen=True)
class Times:
    """Seconds of the stages, and what featurize was limited by.

    Attributes:
        busy, storage, metadata: share of the time of featurize in which a GPU computes (the mean over GPUs), and in which
            storage and the metadata server are in use.
        failures: of GPUs during featurize.
    """

    featurize: float
    finalize: float
    score: float
    busy: float
    storage: float
    metadata: float
    failures: int

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return self.featurize + self.finalize + self.score

    @property
    def limit(self) -> str:
        """What takes the most time: a stage after featurize, or what holds featurize up."""
        if self.featurize < max(self.finalize, self.score):
            return "finalize" if self.finalize > self.score else "score"
        waits = {"GPU": self.busy, "storage": self.storage, "files": self.metadata}
        name = max(waits, key=waits.__getitem__)
        return name if waits[name] > 0.5 else "start of the processes"


class Cluster:
    """The shared parts of a simulated cluster."""

    def __init__(self, rates: Rates, seed: int) -> None:
        self.env = simpy.Environment()
        self.rates, self.random = rates, np.random.default_rng(seed)
        self.channels, self.server = simpy.Resource(self.env, CHANNELS), simpy.Resource(self.env, 1)
        self.busy, self.moving, self.metadata, self.failures = 0.0, 0.0, 0.0, 0

    def transfer(self, size: float) -> Process:
        """Move bytes between storage and one GPU."""
        with self.channels.request() as channel:
            yield channel
            seconds = size / min(self.rates.link, self.rates.storage / CHANNELS)
            yield self.env.timeout(seconds)
            self.moving += size

    def serve(self, seconds: float) -> Process:
        """Let the metadata server work for one process."""
        with self.server.request() as turn:
            yield turn
            yield self.env.timeout(seconds)
            self.metadata += seconds

    def compute(self, seconds: float, lost: float, names: float) -> Process:
        """Compute for so long. After a failure, up to ``lost`` seconds of work are repeated, and so many names listed."""
        left = seconds
        while left > 0:
            alive = self.random.exponential(self.rates.failure_hours * 3600) if self.rates.failure_hours else math.inf
            if alive >= left:
                yield self.env.timeout(left)
                break
            yield self.env.timeout(alive + self.rates.restart_seconds + self.rates.start_seconds)
            yield self.env.process(self.serve(names / self.rates.listing))
            self.failures += 1
            left -= max(0.0, alive - self.random.uniform(0, min(lost, alive)))
        self.busy += seconds


@dataclass(frozen=True)
class Plan:
    """How the work is cut: GPUs, rows of a shard, and whether the changes for scale are made (docs/scaling.md): then a process
    lists its own shards instead of the whole store, and the rows of one checkpoint are shared by processes of finalize."""

    gpus: int
    shard_rows: int
    changed: bool

    def shards(self, work: Work) -> float:
        """In the store."""
        return work.samples * work.checkpoints / self.shard_rows

    def listed(self, work: Work) -> float:
        """By one process that starts on the complete store."""
        return self.shards(work) / (self.gpus if self.changed else 1)

    def finalizers(self, work: Work) -> int:
        """Processes of finalize."""
        return self.gpus if self.changed else min(self.gpus, work.checkpoints)


def featurize(work: Work, plan: Plan, rates: Rates, seed: int = 0) -> Cluster:
    """Simulate featurize; the environment's clock then has its duration."""
    cluster = Cluster(rates, seed)
    rows = work.samples * work.checkpoints / plan.gpus / BLOCKS
    files = rows / plan.shard_rows * OPERATIONS_OF_A_SHARD / rates.file_operations

    def gpu() -> Process:
        yield cluster.env.timeout(rates.start_seconds)
        yield cluster.env.process(cluster.transfer(rows * work.sample_bytes))
        for block in range(BLOCKS):
            ahead = rows * work.sample_bytes if block + 1 < BLOCKS else 0.0
            stored = plan.listed(work) * block / BLOCKS
            compute = cluster.env.process(cluster.compute(rows / rates.gpu, plan.shard_rows / rates.gpu, stored))
            yield compute & cluster.env.process(cluster.transfer(ahead))
            yield cluster.env.process(cluster.transfer(rows * work.row_bytes))
            yield cluster.env.process(cluster.serve(files))

    for _ in range(plan.gpus):
        cluster.env.process(gpu())
    cluster.env.run()
    return cluster


def undisturbed_seconds(work: Work, plan: Plan, rates: Rates) -> float:
    """Seconds of featurize without failures and without waiting for other processes, in closed form."""
    rows = work.samples * work.checkpoints / plan.gpus / BLOCKS
    bandwidth = min(rates.link, rates.storage / CHANNELS)
    reading, computing = rows * work.sample_bytes / bandwidth, rows / rates.gpu
    writing = rows * work.row_bytes / bandwidth + rows / plan.shard_rows * OPERATIONS_OF_A_SHARD / rates.file_operations
    return rates.start_seconds + reading + (BLOCKS - 1) * max(computing, reading) + computing + BLOCKS * writing


def finalize_seconds(work: Work, plan: Plan, rates: Rates) -> float:
    """Seconds of finalize: the Gram matrices by the cores of the machines, merged in a tree, and their decompositions."""
    workers = plan.finalizers(work)
    rows = work.samples * work.checkpoints / workers
    summing = rows * work.features * K * K / (rates.finalize_flops * rates.cores_per_gpu)  # half of the matrix: k² operations
    reading = rows * work.row_bytes / min(rates.link, rates.storage / workers)
    levels = math.ceil(math.log2(max(1.0, workers / work.checkpoints)))
    decomposing = math.ceil(work.checkpoints / workers) * 10 * K**3 / rates.eigen_flops
    listing = workers * plan.listed(work) / rates.listing
    return rates.start_seconds + listing + max(summing, reading) + levels * K * K * 8 / rates.link + decomposing


def score_seconds(work: Work, plan: Plan, rates: Rates) -> float:
    """Seconds of score: the products with all targets by the cores of the machines, keeping the highest of each target."""
    rows = work.samples * work.checkpoints / plan.gpus
    product = 2 * K * work.targets / rates.score_flops
    computing = rows * (product + rates.score_row_seconds * K / 512) / rates.cores_per_gpu
    reading = rows * work.row_bytes / work.features / min(rates.link, rates.storage / plan.gpus)
    listing = plan.gpus * plan.listed(work) / rates.listing
    return rates.start_seconds + listing + max(computing, reading)


def simulate(work: Work, plan: Plan, rates: Rates) -> Times:
    """All three stages."""
    cluster = featurize(work, plan, rates)
    seconds = float(cluster.env.now)
    return Times(
        featurize=seconds,
        finalize=finalize_seconds(work, plan, rates),
        score=score_seconds(work, plan, rates),
        busy=cluster.busy / plan.gpus / seconds,
        storage=cluster.moving / rates.storage / seconds,
        metadata=cluster.metadata / seconds,
        failures=cluster.failures,
    )


def read_rates(model: str) -> Rates:
    """The measured and assumed rates, with the speed of one model."""
    values = {row["rate"]: float(row["value"]) for row in csv.DictReader((RESULTS / "scale_rates.csv").open())}
    (speed,) = [
        float(row["sjlt_samples_per_second"])
        for row in csv.DictReader((RESULTS / "featurize_gpu.csv").open())
        if row["model"] == model
    ]
    return Rates(gpu=speed, **values)


def main() -> None:
    rows = []
    for work in WORK:
        rates = read_rates(work.model)
        for changed in (False, True):
            for gpus in GPUS:
                largest = int(rates.shard_rows_measured) * (LONGER if changed else 1)
                plan = Plan(gpus, min(largest, work.samples // gpus + 1), changed)
                rows.append(row_of(work, plan, rates, simulate(work, plan, rates)))
                print(*rows[-1].values(), flush=True)
    with (RESULTS / "scaling.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows)


def row_of(work: Work, plan: Plan, rates: Rates, times: Times) -> dict[str, str]:
    """One line of the table."""
    disk = work.samples * work.checkpoints * work.row_bytes
    network = work.samples * work.checkpoints * (work.sample_bytes + 3 * work.row_bytes)  # written once, read twice
    hours = (times.featurize + times.score) / 3600 * plan.gpus + times.finalize / 3600 * plan.finalizers(work)
    dollars = hours * rates.gpu_hour + disk / 1e9 * rates.gigabyte_month
    return {
        "work": work.name,
        "program": "with the changes" if plan.changed else "today",
        "gpus": f"{plan.gpus:,}",
        **{stage: f"{getattr(times, stage) / 3600:.3g}" for stage in ("featurize", "finalize", "score", "total")},
        "limit": times.limit,
        "busy": f"{times.busy:.0%}",
        "failures": str(times.failures),
        "undisturbed": f"{undisturbed_seconds(work, plan, rates) / times.featurize:.0%}",
        "disk_tb": f"{disk / 1e12:.3g}",
        "network_tb": f"{network / 1e12:.3g}",
        "dollars": f"{float(f'{dollars:.2g}'):,.0f}",
    }


def draw(rows: list[dict[str, str]]) -> None:
    """Hours and money against the number of GPUs."""
    from matplotlib.figure import Figure

    names = [work.name for work in WORK]
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        for program, line in (("today", "--"), ("with the changes", "-")):
            own = [row for row in rows if row["work"] == name and row["program"] == program]
            for stage, colour in (("featurize", "tab:blue"), ("finalize", "tab:orange"), ("score", "tab:green")):
                label = stage if line == "-" else None
                hours = [float(row[stage]) for row in own]
                axes.loglog(GPUS, hours, line, color=colour, label=label, marker="o", markersize=3)
        axes.set(title=name, xlabel="GPUs", ylabel="hours")
        axes.grid(alpha=0.3)
    axes.plot([], [], "k--", label="today")
    axes.plot([], [], "k-", label="with the changes")
    axes.legend(fontsize=8)
    figure.savefig(DOCS / "scaling.png", dpi=110)
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, colour in zip(names, ("tab:blue", "tab:orange", "tab:green"), strict=True):
        for program, line in (("today", "--"), ("with the changes", "-")):
            own = [row for row in rows if row["work"] == name and row["program"] == program]
            money = [float(row["dollars"].replace(",", "")) for row in own]
            axes.loglog(GPUS, money, line, color=colour, marker="o", markersize=3, label=name if line == "-" else None)
    axes.plot([], [], "k--", label="today")
    axes.set(xlabel="GPUs", ylabel="US dollars")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(DOCS / "scaling_cost.png", dpi=110)


if __name__ == "__main__":
    main()
