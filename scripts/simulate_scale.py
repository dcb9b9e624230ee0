"""How long, how large and how expensive is a run on 1 to 10,000 GPUs? A simulation fed by measured rates.

python scripts/simulate_scale.py            writes docs/results/scaling*.csv, docs/scaling.png and docs/scaling_cost.png

Every GPU is a process of featurize: it reads the samples of its next block while it computes, and then writes the shards of
the block. All of them share storage of limited bandwidth and one metadata server, which creates files and lists folders. A GPU
that fails loses the shard it works on, waits for a restart, looks up its own shards and goes on. finalize and score read the
features back on the CPU cores of the same machines, in parts of worker.part_rows rows, whose results one process merges.

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
#: Rows that finalize reads before it sums, in order to simulate the training: evenly spaced, so each lies in another shard.
SAMPLED_ROWS = 4096
#: Bytes of a candidate of score: highest and lowest scores of a target, in float32, and their rows.
CANDIDATE_BYTES = 12
#: score.top_k and score.target_block.
TOP_K, TARGET_BLOCK = 100, 4096

GPUS = (1, 10, 100, 1_000, 10_000)
#: Numbers of processes of finalize and score that are tried.
COUNTS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
PROGRAMS = ("by default", "best settings", "with the changes")
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
    candidate_seconds: float
    part_write: float
    merge: float
    shard_seconds: float
    eigen_flops: float
    simulation_seconds: float
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

    def compute(self, seconds: float, lost: float, start: float, names: float) -> Process:
        """Compute for so long. After a failure a process starts again, looks up names, and repeats up to ``lost`` seconds."""
        left = seconds
        while left > 0:
            alive = self.random.exponential(self.rates.failure_hours * 3600) if self.rates.failure_hours else math.inf
            if alive >= left:
                yield self.env.timeout(left)
                break
            yield self.env.timeout(alive + self.rates.restart_seconds + start)
            yield self.env.process(self.serve(names / self.rates.listing))
            self.failures += 1
            left -= max(0.0, alive - self.random.uniform(0, min(lost, alive)))
        self.busy += seconds


@dataclass(frozen=True)
class Plan:
    """How the work is cut.

    Attributes:
        part_rows: rows of a unit of work of finalize and score.
        workers: processes of finalize and of score, at most.
        changed: whether what docs/scaling.md calls not built is there: finalize and score list their own shards, sampled rows
            and weights are read where they are needed, and parts are merged in a tree.
    """

    gpus: int
    shard_rows: int
    part_rows: int
    workers: tuple[int, int]
    changed: bool = False

    def shards(self, work: Work) -> float:
        """In the store."""
        return work.samples * work.checkpoints / self.shard_rows

    def parts(self, work: Work) -> int:
        """Of the training rows under one checkpoint."""
        return math.ceil(work.samples / self.part_rows)

    def finalizers(self, work: Work) -> int:
        """Processes of finalize that have work."""
        return min(self.workers[0], self.parts(work) * work.checkpoints)

    def blocks(self, work: Work) -> int:
        """Of targets."""
        return math.ceil(work.targets / TARGET_BLOCK)

    def scorers(self, work: Work) -> int:
        """Processes of score that have work."""
        return min(self.workers[1], self.parts(work) * self.blocks(work))


def featurize(work: Work, plan: Plan, rates: Rates, seed: int = 0) -> Cluster:
    """Simulate featurize; the environment's clock then has its duration."""
    cluster = Cluster(rates, seed)
    rows = work.samples * work.checkpoints / plan.gpus / BLOCKS
    files = rows / plan.shard_rows * OPERATIONS_OF_A_SHARD / rates.file_operations
    start = rates.start_seconds + plan.shards(work) * rates.shard_seconds

    def gpu() -> Process:
        yield cluster.env.timeout(start)
        yield cluster.env.process(cluster.transfer(rows * work.sample_bytes))
        for block in range(BLOCKS):
            ahead = rows * work.sample_bytes if block + 1 < BLOCKS else 0.0
            stored = plan.shards(work) / plan.gpus * block / BLOCKS
            compute = cluster.env.process(cluster.compute(rows / rates.gpu, plan.shard_rows / rates.gpu, start, stored))
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
    start = rates.start_seconds + plan.shards(work) * rates.shard_seconds
    return start + reading + (BLOCKS - 1) * max(computing, reading) + computing + BLOCKS * writing


def part_rows(samples: int, shard_rows: int) -> int:
    """The rows of a unit of work of finalize and score by default: at least a shard."""
    return min(samples, max(2**14, shard_rows))


def merge_seconds(sizes: float, merges: float, rates: Rates, tree: bool) -> float:
    """Seconds to merge so many results of a size of bytes: one after the other, or in a tree of the processes."""
    return (math.ceil(math.log2(max(1.0, merges))) if tree else merges) * sizes / rates.merge


def finalize_seconds(work: Work, plan: Plan, rates: Rates) -> float:
    """Seconds of finalize: every process sums parts with all cores; one process merges those of a checkpoint."""
    workers, parts = plan.finalizers(work), plan.parts(work)
    own = math.ceil(parts * work.checkpoints / workers)
    rows = own * work.samples / parts
    bandwidth = min(rates.link, rates.storage / workers)
    summing = rows * work.features * K * K / (rates.finalize_flops * rates.cores_per_gpu)  # half of the matrix: k² operations
    size = K * (K + 1) / 2 * 8
    names = plan.shards(work) / workers if plan.changed else plan.shards(work) + parts * work.checkpoints
    # Processes begin with different checkpoints, and find what the others have stored under those that follow.
    sampled = 0 if plan.changed else min(work.samples, SAMPLED_ROWS * plan.shard_rows) * K * FEATURE_BYTES
    each = math.ceil(work.checkpoints / workers)
    return (
        rates.start_seconds
        + workers * names / rates.listing
        + each * (sampled / bandwidth + rates.simulation_seconds)
        + max(summing, rows * work.row_bytes / bandwidth)
        + (own * size / rates.part_write if parts > 1 else 0.0)
        + (each * merge_seconds(size, parts, rates, plan.changed) if parts > 1 else 0.0)
        + each * 10 * K**3 / rates.eigen_flops
    )


def score_seconds(work: Work, plan: Plan, rates: Rates) -> float:
    """Seconds of score: products with a block of targets by all cores, keeping candidates; one process merges them."""
    workers, parts, blocks = plan.scorers(work), plan.parts(work), plan.blocks(work)
    own = math.ceil(parts * blocks / workers)
    rows = own * work.samples / parts * work.checkpoints  # features are read again for each block
    bandwidth = min(rates.link, rates.storage / workers)
    product = 2 * K * work.targets / blocks / rates.score_flops
    computing = rows * (product + rates.score_row_seconds * K / 512) / rates.cores_per_gpu
    reading = rows * work.row_bytes / work.features / bandwidth
    weights = work.samples * 4 / (workers if plan.changed else 1)
    factors = min(own, blocks) * work.checkpoints * (K * K * 8 + weights) / bandwidth
    candidates = work.targets * 2 * TOP_K
    if plan.changed:
        merging = math.ceil(math.log2(parts)) * candidates / workers * rates.candidate_seconds if parts > 1 else 0.0
    else:
        merging = parts * candidates * max(rates.candidate_seconds, CANDIDATE_BYTES / rates.link)
    listing = plan.shards(work) * (1 if plan.changed else workers) / rates.listing
    return rates.start_seconds + listing + factors + max(computing, reading) + merging


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
        for program in PROGRAMS:
            for gpus in GPUS:
                plan = plan_of(work, program, gpus, rates)
                rows.append(row_of(work, program, plan, rates))
                print(*rows[-1].values(), flush=True)
    with (RESULTS / "scaling.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows)


def plan_of(work: Work, program: str, gpus: int, rates: Rates) -> Plan:
    """How a program cuts the work: by default; or with the shards, parts and processes that take the least time."""
    longest = int(rates.shard_rows_measured)
    default = plan_with(work, gpus, longest, None, (gpus, gpus))
    if program == PROGRAMS[0]:
        return default
    counts = sorted({min(gpus, count) for count in COUNTS})
    plans = [
        plan_with(work, gpus, longest * longer, parts, (finalizers, scorers), program == PROGRAMS[2])
        for longer in (1, 4, 16, 64)
        for parts in (None, 10, 30, 100, 300, 1_000, 3_000, 10_000)
        for finalizers in counts
        for scorers in counts
    ]
    return min(plans, key=lambda plan: undisturbed_seconds(work, plan, rates) + after_seconds(work, plan, rates))


def plan_with(work: Work, gpus: int, longest: int, parts: int | None, workers: tuple[int, int], changed: bool = False) -> Plan:
    """A plan with shards of at most so many rows, and with so many parts for each checkpoint (None: the default)."""
    shard_rows = min(longest, work.samples // gpus + 1)
    least = part_rows(work.samples, shard_rows)
    return Plan(gpus, shard_rows, least if parts is None else max(least, math.ceil(work.samples / parts)), workers, changed)


def after_seconds(work: Work, plan: Plan, rates: Rates) -> float:
    """Seconds of finalize and score."""
    return finalize_seconds(work, plan, rates) + score_seconds(work, plan, rates)


def row_of(work: Work, program: str, plan: Plan, rates: Rates) -> dict[str, str]:
    """One line of the table."""
    times = simulate(work, plan, rates)
    disk = work.samples * work.checkpoints * work.row_bytes
    # Features are written once, read by finalize, and read by score for each block of targets, without those of curvature.
    passes = 2 + plan.blocks(work) / work.features
    network = work.samples * work.checkpoints * (work.sample_bytes + passes * work.row_bytes)
    machines = plan.finalizers(work) * times.finalize + plan.scorers(work) * times.score
    hours = (times.featurize * plan.gpus + machines) / 3600
    dollars = hours * rates.gpu_hour + disk / 1e9 * rates.gigabyte_month
    return {
        "work": work.name,
        "program": program,
        "gpus": f"{plan.gpus:,}",
        **{stage: f"{getattr(times, stage) / 3600:.3g}" for stage in ("featurize", "finalize", "score", "total")},
        "limit": times.limit,
        "shard_rows": f"{plan.shard_rows:,}",
        "part_rows": f"{plan.part_rows:,}",
        "finalize_tasks": f"{plan.finalizers(work):,}",
        "score_tasks": f"{plan.scorers(work):,}",
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

    def values(work: str, program: str, column: str) -> list[float]:
        return [float(row[column].replace(",", "")) for row in rows if (row["work"], row["program"]) == (work, program)]

    names, lines = [work.name for work in WORK], dict(zip(PROGRAMS, (":", "--", "-"), strict=True))
    stages = {"featurize": "tab:blue", "finalize": "tab:orange", "score": "tab:green"}
    # One below the other, so that the text can be read on a narrow screen.
    figure = Figure(figsize=(6.4, 11), layout="constrained")
    for axes, name in zip(figure.subplots(len(names), 1), names, strict=True):
        for program, line in lines.items():
            for stage, colour in stages.items():
                axes.loglog(GPUS, values(name, program, stage), line, color=colour, linewidth=2)
        axes.set_title(name, fontsize=14)
        style(axes, "hours")
    axes.legend(handles=[*(key(name, colour) for name, colour in stages.items()), *keys(lines)], fontsize=11, ncol=2)
    figure.savefig(DOCS / "scaling.png", dpi=110)
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = figure.subplots()
    colours = dict(zip(names, ("tab:blue", "tab:orange", "tab:green"), strict=True))
    for name, colour in colours.items():
        for program, line in lines.items():
            axes.loglog(GPUS, values(name, program, "dollars"), line, color=colour, linewidth=2)
    style(axes, "US dollars")
    handles = [*(key(name, colour) for name, colour in colours.items()), *keys(lines)]
    figure.legend(handles=handles, fontsize=11, ncol=2, loc="outside upper center")
    figure.savefig(DOCS / "scaling_cost.png", dpi=110)


def style(axes: Any, label: str) -> None:
    """Axes with labels that are large enough for a narrow screen."""
    axes.set_xlabel("number of GPUs", fontsize=13)
    axes.set_ylabel(label, fontsize=13)
    axes.tick_params(labelsize=12)
    axes.grid(alpha=0.3)


def key(label: str, colour: str, line: str = "-") -> Any:
    """A line of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, linestyle=line, linewidth=2, label=label)


def keys(lines: dict[str, str]) -> list[Any]:
    """The lines of a legend for the programs."""
    return [key(program, "black", line) for program, line in lines.items()]


if __name__ == "__main__":
    main()
