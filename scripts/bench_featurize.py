"""Measure the speed of featurizing, as ratios from one interleaved run, and its memory.

    python scripts/bench_featurize.py
    python scripts/bench_featurize.py --memory

"step" is one forward and backward pass of the same batch, without an optimizer (on a GPU both with PyTorch's default, TF32 in
convolutions, and without TF32, as gradients are computed). "gradients" computes per-sample gradients and discards them.
"featurize" reads samples, computes, projects and checks gradients, and writes a shard (on a GPU a shard of several
microbatches, of which the mean is reported). With "factored" the hooks engine never forms the full gradient of a weight. Each
of ``--repeat`` rounds runs everything in turn, and the fastest run of each counts. The original library is timed if it is
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
from trak_cli.gradients.engines.hooks.engine import HooksEngine
from trak_cli.gradients.engines.hooks.strategies import Strategies, outer_products
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.factoring import Factoring
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import select
from trak_cli.gradients.transforms.adam import ScaledEngine, SecondMoments
from trak_cli.gradients.transforms.autocast import AUTOCAST, with_autocast
from trak_cli.gradients.tuning.allocator import keep_freed_memory
from trak_cli.gradients.tuning.clock import clock_of
from trak_cli.gradients.tuning.forms import fastest_forms
from trak_cli.plugins.samples import collate
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector, most_terms
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
#: Models with more parameters are not run with the original library's CPU projector, which would take too long.
ORIGINAL_LIMIT = 5_000_000
MODELS = {
    "resnet9": 32,
    "bert-small": 16,
    "bert-long": 16,
    "resnet18-small": 16,
    "resnet50-small": 16,
    "resnet50": 8,
    "gpt2-small": 4,
}
#: Models for a CUDA device, and their batch sizes.
LARGE = {"resnet18": 128, "vit-base": 64, "clip-base": 128, "bert-base": 64, "mt5-small": 64}
#: Microbatches of a shard on a GPU: more than one, because samples are read ahead of the computation.
GPU_BATCHES = 4
#: Models measured by default. The others need transformers, and minutes on a CPU.
SMALL = ("resnet9", "bert-small")

Work = Callable[[], object]


def main() -> None:
    arguments = parse()
    if arguments.one:
        print(json.dumps(peak(json.loads(arguments.one))))
        return
    keep_freed_memory()  # as the command does; the training step benefits too
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
    parser.add_argument("--cpu", action="store_true", help="measure CPU time, which other programs disturb less (CPU only)")
    parser.add_argument("--autocast", choices=list(AUTOCAST), help="autocast for all but the training step (not with vmap)")
    parser.add_argument("--adam", action="store_true", help="measure gradients.optimizer=adam too")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--projections", nargs="+", default=list(PROJECTIONS), choices=list(PROJECTIONS))
    parser.add_argument("--fixed-forms", action="store_true", help="do not measure the forms of convolutions")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of speed (CPU only)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def fastest(works: Mapping[str, Work], repeat: int, device: str, clock: Callable[[], float]) -> dict[str, float]:
    """Return the fastest time of each work, in seconds, over rounds that run them in turn, after a warm-up round."""
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
    """Print one table for a model: every engine, alone and with every projection."""
    device = torch.device(arguments.device)
    model, samples = make(name, size)
    model.to(device)
    parameters = select(model, ["*"], ["logit_scale"] if name == "clip-base" else [])  # as in the shipped configuration
    on_gpu = arguments.device != "cpu"
    batches = GPU_BATCHES if on_gpu else 1
    split = Split("train", samples * batches, size * batches, collate, device, int(on_gpu))
    batch = split.batch(samples)
    task = task_of(name)
    if task.context_rows(size):
        with torch.no_grad():
            task.bind(task.context(model, [batch]))
    function = with_autocast(task, model, device, arguments.autocast)
    strategies = dict(find_strategies(model, function, parameters, batch))
    if not arguments.fixed_forms:
        strategies |= fastest_forms(HooksEngine(model, function, parameters, strategies), batch, clock_of(device.type))
    of_shards: set[str] = set()
    works: dict[str, Work] = {"step": lambda: step(model, task, parameters, batch)}
    if on_gpu:
        works["step without TF32"] = lambda: exact_step(model, task, parameters, batch)
    with tempfile.TemporaryDirectory() as folder:
        for engine in arguments.engines:
            built = make_engine(engine, model, function, parameters, strategies)
            works[engine] = lambda built=built: drain(built, batch)  # type: ignore[misc]
            for projection in arguments.projections:
                spec = PROJECTIONS[projection]
                ready = featurizer(engine, model, parameters, spec, size, task=task, function=function, strategies=strategies)
                works[f"{engine}, {projection}"] = featurize(ready, split, Path(folder))
                of_shards.add(f"{engine}, {projection}")
                if arguments.adam:
                    scaled = replace(ready, engine=ScaledEngine(ready.engine, moments(built, parameters, batch).scales()))
                    works[f"{engine}, {projection}, Adam's scales"] = featurize(scaled, split, Path(folder))
                    of_shards.add(f"{engine}, {projection}, Adam's scales")
            if arguments.adam:
                works[f"{engine}, second moments"] = lambda built=built: moments(built, parameters, batch)  # type: ignore[misc]
        theirs = original(model, parameters, batch)
        if isinstance(theirs, str):
            print(f"original library: {theirs}")
        else:
            works["original library"] = theirs
        seconds = fastest(works, arguments.repeat, arguments.device, time.process_time if arguments.cpu else time.perf_counter)
        peaks = {name: device_peak(work) for name, work in works.items()} if on_gpu else {}
    seconds = {name: taken / (batches if name in of_shards else 1) for name, taken in seconds.items()}
    p = sum(parameter.numel() for parameter in parameters.values())
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
    """Return the peak device memory in bytes while ``work`` runs, including the model's."""
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated()


def step(model: nn.Module, task: Task, parameters: Mapping[str, Tensor], batch: object) -> None:
    with torch.enable_grad():
        torch.autograd.grad(task.loss(model, batch), list(parameters.values()))


def exact_step(model: nn.Module, task: Task, parameters: Mapping[str, Tensor], batch: object) -> None:
    """Run a step with the float32 precision that gradients are computed with."""
    with exact():
        step(model, task, parameters, batch)


def drain(engine: Engine, batch: object) -> None:
    with exact():  # as featurizing does
        for block in engine.per_sample(batch).blocks:
            del block


def moments(engine: Engine, parameters: Mapping[str, Tensor], batch: object) -> SecondMoments:
    """Compute the second moments of the gradients, as ``gradients.optimizer=adam`` does in a separate pass."""
    result = SecondMoments(parameters)
    result.add(engine.per_sample(batch))
    return result


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
    """Build a featurizer as the stage does: with kind ``factored`` the engine returns factors."""
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    matrices = outer_products(model, parameters) if spec.kind == "factored" else {}
    projector = make_projector(
        ProjectionJob(spec, CHECKPOINT, sizes, device=next(model.parameters()).device, matrices=matrices)
    )
    factoring = Factoring(matrices, most_terms(spec, next(model.parameters()).device.type, "auto"))
    gradient_engine = make_engine(engine, model, function or task, parameters, strategies, factoring)
    return Featurizer(model, task, gradient_engine, projector, sum(sizes.values()), size)


def featurize(ready: Featurizer, split: Split, folder: Path) -> Work:
    """Do all that the stage does for one shard."""

    def work() -> None:
        rows = ready.rows(split, Rows(0, split.rows), lambda _: None)
        write_features(folder / "00000.h5", rows, {"kind": "benchmark"}, {}, "float32", overwrite=True)

    return work


def original(model: nn.Module, parameters: Mapping[str, Tensor], batch: tuple[Tensor, Tensor]) -> Work | str:
    """Return the original library's featurize of the same batch, or the reason why it is not measured."""
    if importlib.util.find_spec("trak") is None:
        return "not measured: pip install traker"
    from trak import TRAKer  # type: ignore[import-not-found]
    from trak.projectors import BasicProjector, ProjectionType  # type: ignore[import-not-found]

    if next(model.parameters()).is_cuda:
        return "not measured on a GPU"
    p = sum(parameter.numel() for parameter in parameters.values())
    if p > ORIGINAL_LIMIT or isinstance(batch, dict):
        return "not measured on this model: its CPU projector would take an hour"
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
        traker.saver.current_store["is_featurized"][:] = 0  # otherwise it skips what it has computed
        traker.featurize(batch=batch, inds=everything)

    return work


def memory() -> None:
    """Print the peak memory of featurizing, minus that of a process that only loads the model, over k, p and n."""
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
            result = child({"model": model, "batch": batch, "samples": samples * batch, "kind": kind, "dim": dim})
            matrix = result["p"] * dim * 4 / 2**30
            more = (result["peak"] - base["peak"]) / 2**20
            rows.append(
                [
                    model,
                    f"{result['p'] / 1e6:.0f} M",
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


def child(case: Mapping[str, object]) -> dict[str, int]:
    done = subprocess.run([sys.executable, __file__, "--one", json.dumps(case)], stdout=subprocess.PIPE, check=True)
    result: dict[str, int] = json.loads(done.stdout)
    return result


def peak(case: dict[str, object]) -> dict[str, int]:
    """Featurize in this process, one microbatch to a shard, and return the peak memory in bytes."""
    batch, count = int(str(case["batch"])), int(str(case["samples"]))
    model, samples = make(str(case["model"]), batch)
    parameters = select(model, ["*"])
    if count:
        split = Split("train", samples * (count // batch), count, collate, torch.device("cpu"))
        spec, task = ProjectionSpec(str(case["kind"]), int(str(case["dim"]))), task_of(str(case["model"]))
        ready = featurizer("hooks", model, parameters, spec, batch, task=task)
        with tempfile.TemporaryDirectory() as folder:
            for start in range(0, count, batch):
                rows = ready.rows(split, Rows(start, start + batch), lambda _: None)
                write_features(Path(folder) / f"{start}.h5", rows, {"kind": "benchmark"}, {}, "float32")
    return {"peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "p": sum(o.numel() for o in parameters.values())}


if __name__ == "__main__":
    main()
