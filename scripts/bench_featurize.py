"""How fast featurizing is, as ratios, each measured interleaved in one run; and how much memory it takes.

    python scripts/bench_featurize.py
    python scripts/bench_featurize.py --memory

"step" is one ordinary forward and backward pass of the same batch (no optimizer; on a GPU as PyTorch sets it up, with TF32 in
convolutions, and once without, as gradients are computed). "gradients" computes per-sample gradients and throws them away;
"featurize" reads samples, computes gradients, projects them, checks them and writes a shard (on a GPU, one of several
microbatches, and the mean is reported); with "factored" the hooks engine forms no full gradient of a weight. In each of
``--repeat`` rounds everything runs in turn, and the fastest run of each counts. The original library is timed if it is
installed (pip install traker).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from bench_models import make, task_of
from bench_projection import machine, table
from torch import Tensor, nn

from trak_cli.gradients.contract import Engine, ModelOutput
from trak_cli.gradients.engines.hooks.factors import outer_products
from trak_cli.gradients.engines.hooks.strategies import Strategies
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import select
from trak_cli.gradients.transforms.adam import ScaledEngine, SecondMoments
from trak_cli.gradients.transforms.autocast import AUTOCAST, with_autocast
from trak_cli.plugins.samples import collate
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.inputs.split import Split
from trak_cli.store.shards import write_features
from trak_cli.tasks import Task
from trak_cli.types import Rows

CHECKPOINT = "00" * 32
PROJECTIONS = {
    "sjlt": ProjectionSpec("sjlt", 2048),
    "sjlt s=4": ProjectionSpec("sjlt", 2048, nonzeros=4),
    "factored": ProjectionSpec("factored", 2048, nonzeros=4, factors=(16, 16)),
    "rademacher": ProjectionSpec("rademacher", 2048),
}
#: Parameters from which on the original library's CPU projector is not waited for.
ORIGINAL_LIMIT = 5_000_000
MODELS = {"resnet9": 32, "bert-small": 16, "bert-long": 16, "resnet50": 8, "gpt2-small": 4}
#: Models for a CUDA device, with its samples at a time.
LARGE = {"resnet18": 128, "vit-base": 64, "clip-base": 128, "bert-base": 64, "mt5-small": 64}
#: Microbatches of a shard on a GPU, so that reading ahead of the computation counts.
GPU_BATCHES = 4
#: Those that are measured where none is named; the others take transformers, and minutes on a CPU.
SMALL = ("resnet9", "bert-small")

Work = Callable[[], object]


def main() -> None:
    arguments = parse()
    if arguments.one:
        print(json.dumps(peak(json.loads(arguments.one))))
        return
    torch.set_num_threads(arguments.threads)
    print(machine().strip() + f", {arguments.threads} threads, {arguments.device}\n")
    if arguments.memory:
        memory()
    else:
        for name in arguments.models:
            speed(name, (MODELS | LARGE)[name], arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=10, help="rounds")
    parser.add_argument("--models", nargs="+", default=list(SMALL), choices=[*MODELS, *LARGE])
    parser.add_argument("--cpu", action="store_true", help="count CPU time, which other programs spoil less (CPU only)")
    parser.add_argument("--autocast", choices=list(AUTOCAST), help="of everything but the training step; not with vmap")
    parser.add_argument("--adam", action="store_true", help="also with gradients.optimizer=adam")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--projections", nargs="+", default=list(PROJECTIONS), choices=list(PROJECTIONS))
    parser.add_argument("--memory", action="store_true", help="peak memory instead of speed (CPU only)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def fastest(works: Mapping[str, Work], repeat: int, device: str, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of each work: the least over rounds in which all of them run in turn, after one that does not count."""
    best = dict.fromkeys(works, float("inf"))
    for round_number in range(repeat + 1):
        for name, work in works.items():
            start = clock()
            work()
            if device != "cpu":
                torch.cuda.synchronize()
            if round_number:
                best[name] = min(best[name], clock() - start)
    return best


def speed(name: str, size: int, arguments: argparse.Namespace) -> None:
    """One table for a model: every engine, alone and with every projection."""
    device = torch.device(arguments.device)
    model, samples = make(name, size)
    model.to(device)
    parameters = select(model, ["*"], ["logit_scale"] if name == "clip-base" else [])  # as the shipped configurations do
    on_gpu = arguments.device != "cpu"
    batches = GPU_BATCHES if on_gpu else 1
    split = Split("train", samples * batches, size * batches, collate, device, int(on_gpu))
    batch = split.batch(samples)
    task = task_of(name)
    if task.context_rows(size):
        with torch.no_grad():
            task.bind(task.context(model, [batch]))
    function = with_autocast(task, model, device, arguments.autocast)
    strategies = find_strategies(model, function, parameters, batch)
    of_shards: set[str] = set()
    works: dict[str, Work] = {"step": lambda: step(model, task, parameters, batch)}
    if on_gpu:
        works["step without TF32"] = lambda: exact_step(model, task, parameters, batch)
    with tempfile.TemporaryDirectory() as folder:
        for engine in arguments.engines:
            made = make_engine(engine, model, function, parameters, strategies)
            works[engine] = lambda made=made: drain(made, batch)  # type: ignore[misc]
            for projection in arguments.projections:
                spec = PROJECTIONS[projection]
                ready = featurizer(engine, model, parameters, spec, size, task=task, function=function, strategies=strategies)
                works[f"{engine}, {projection}"] = featurize(ready, split, Path(folder))
                of_shards.add(f"{engine}, {projection}")
                if arguments.adam:
                    scaled = replace(ready, engine=ScaledEngine(ready.engine, moments(made, parameters, batch).scales()))
                    works[f"{engine}, {projection}, Adam's scales"] = featurize(scaled, split, Path(folder))
                    of_shards.add(f"{engine}, {projection}, Adam's scales")
            if arguments.adam:
                works[f"{engine}, second moments"] = lambda made=made: moments(made, parameters, batch)  # type: ignore[misc]
        theirs = original(model, parameters, batch)
        if isinstance(theirs, str):
            print(f"original library: {theirs}")
        else:
            works["original library"] = theirs
        seconds = fastest(works, arguments.repeat, arguments.device, time.process_time if arguments.cpu else time.perf_counter)
        peaks = {name: device_peak(work) for name, work in works.items()} if on_gpu else {}
    seconds = {name: taken / (batches if name in of_shards else 1) for name, taken in seconds.items()}
    p = sum(one.numel() for one in parameters.values())
    print(f"{name}, p = {p:,}, batch {size}: one training step takes {1000 * seconds['step']:.0f} ms")
    rows = []
    for work, taken in seconds.items():
        engine = work.split(",")[0]
        alone = f"{taken / seconds[engine]:.2f}" if "," in work else ""
        ours = "" if "original library" not in seconds else f"{seconds['original library'] / taken:.1f}"
        on_device = [f"{size / taken:.0f}", f"{peaks[work] / 2**30:.1f}"] if peaks else []
        rows.append([work, f"{taken / seconds['step']:.2f}", alone, ours, *on_device])
    head = ["samples/s", "peak, GiB"] if peaks else []
    table(["", "× step", "× gradients", "original library takes × this", *head], rows)


def device_peak(work: Work) -> int:
    """Bytes of the device's memory in use at most while ``work`` runs, the model's included."""
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated()


def step(model: nn.Module, task: Task, parameters: Mapping[str, Tensor], batch: object) -> None:
    with torch.enable_grad():
        torch.autograd.grad(task.loss(model, batch), list(parameters.values()))


def exact_step(model: nn.Module, task: Task, parameters: Mapping[str, Tensor], batch: object) -> None:
    """A step under the setting that gradients are computed under."""
    with exact():
        step(model, task, parameters, batch)


def drain(engine: Engine, batch: object) -> None:
    with exact():  # as featurizing does
        for block in engine.per_sample(batch).blocks:
            del block


def moments(engine: Engine, parameters: Mapping[str, Tensor], batch: object) -> SecondMoments:
    """What ``gradients.optimizer=adam`` computes of each sample in a pass of its own."""
    found = SecondMoments(parameters)
    found.add(engine.per_sample(batch))
    return found


def featurizer(
    engine: str,
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    spec: ProjectionSpec,
    size: int,
    *,
    task: Task,
    function: ModelOutput | None = None,
    strategies: Strategies | None = None,
) -> Featurizer:
    """As the stage makes it: with kind ``factored`` the engine gives factors."""
    sizes = {name: one.numel() for name, one in parameters.items()}
    matrices = outer_products(model, parameters) if spec.kind == "factored" else {}
    projector = make_projector(
        ProjectionJob(spec, CHECKPOINT, sizes, device=next(model.parameters()).device, matrices=matrices)
    )
    made = make_engine(engine, model, function or task, parameters, strategies, matrices)
    return Featurizer(model, task, made, projector, sum(sizes.values()), size)


def featurize(made: Featurizer, split: Split, folder: Path) -> Work:
    """All that the stage does for one shard of one microbatch."""

    def work() -> None:
        rows = made.rows(split, Rows(0, split.rows), lambda _: None)
        write_features(folder / "00000.h5", rows, {"kind": "benchmark"}, {}, "float32", overwrite=True)

    return work


def original(model: nn.Module, parameters: Mapping[str, Tensor], batch: tuple[Tensor, Tensor]) -> Work | str:
    """The original library's featurize of the same batch, or why it was not measured."""
    if importlib.util.find_spec("trak") is None:
        return "not measured: pip install traker"
    from trak import TRAKer  # type: ignore[import-not-found]
    from trak.projectors import BasicProjector, ProjectionType  # type: ignore[import-not-found]

    if next(model.parameters()).is_cuda:
        return "not measured on a GPU"
    p = sum(one.numel() for one in parameters.values())
    if p > ORIGINAL_LIMIT or isinstance(batch, dict):
        return "not measured on this model, which its CPU projector takes an hour for"
    projector = BasicProjector(p, 2048, 0, ProjectionType.rademacher, "cpu", block_size=100, dtype=torch.float32)
    folder = tempfile.mkdtemp()
    traker = TRAKer(
        model=model,
        task="image_classification",
        train_set_size=len(batch[0]),
        save_dir=folder,
        device="cpu",
        projector=projector,
        use_half_precision=False,
        logging_level=40,
    )
    traker.load_checkpoint(model.state_dict(), model_id=0)
    everything = torch.arange(len(batch[0]))

    def work() -> None:
        traker.saver.current_store["is_featurized"][:] = 0  # else it has nothing to do
        traker.featurize(batch=batch, inds=everything)

    return work


def memory() -> None:
    """Peak memory of a whole process beyond that of one that only loads the model, over k, p and the number of samples."""
    rows = []
    for model, batch in (("resnet9-wide", 16), ("encoder-base", 4)):
        base = child({"model": model, "batch": batch, "samples": 0, "kind": "sjlt", "dim": 512})
        for kind, dim, samples in (
            ("sjlt", 512, 2),
            ("sjlt", 65536, 2),
            ("sjlt", 512, 8),
            ("rademacher", 512, 2),
            ("rademacher", 4096, 2),
            ("factored", 512, 2),
        ):
            asked = {"model": model, "batch": batch, "samples": samples * batch, "kind": kind, "dim": dim}
            found = child(asked)
            matrix = found["p"] * dim * 4 / 2**30
            more = (found["peak"] - base["peak"]) / 2**20
            rows.append(
                [
                    model,
                    f"{found['p'] / 1e6:.0f} M",
                    str(batch),
                    kind,
                    str(dim),
                    str(samples * batch),
                    f"{matrix:.0f}",
                    f"{more:.0f}",
                ]
            )
    print("peak memory of featurizing (hooks) beyond a process that holds the model; the matrix is never in memory")
    table(["model", "p", "microbatch", "kind", "k", "samples", "matrix, GiB", "peak, MiB"], rows)


def child(asked: Mapping[str, object]) -> dict[str, int]:
    done = subprocess.run([sys.executable, __file__, "--one", json.dumps(asked)], stdout=subprocess.PIPE, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def peak(asked: dict[str, object]) -> dict[str, int]:
    """Featurize in this process, one microbatch to a shard, and tell the bytes of its peak."""
    batch, count = int(str(asked["batch"])), int(str(asked["samples"]))
    model, samples = make(str(asked["model"]), batch)
    parameters = select(model, ["*"])
    if count:
        split = Split("train", samples * (count // batch), count, collate, torch.device("cpu"))
        spec, task = ProjectionSpec(str(asked["kind"]), int(str(asked["dim"]))), task_of(str(asked["model"]))
        made = featurizer("hooks", model, parameters, spec, batch, task=task)
        with tempfile.TemporaryDirectory() as folder:
            for start in range(0, count, batch):
                rows = made.rows(split, Rows(start, start + batch), lambda _: None)
                write_features(Path(folder) / f"{start}.h5", rows, {"kind": "benchmark"}, {}, "float32")
    return {"peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "p": sum(o.numel() for o in parameters.values())}


if __name__ == "__main__":
    main()
