"""The typed schema of the configuration: every key, its type, default and help. It is the only place that defines defaults.

``configs/trak.yaml`` inherits these defaults and selects an option of each config group. Nodes that name a plugin
(``_target_: module.Name`` and its arguments) are plain mappings here; a stage turns them into objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.lds.datamodels import BASELINES
from trak_cli.config.keys import MISSING, key
from trak_cli.gradients.options import AUTOCAST_DTYPES, ENGINES, MOMENTS, OPTIMIZERS, REPRESENTATION, SIDES
from trak_cli.plugins.checkpoints.member import KINDS, SCALES
from trak_cli.projection.spec import KERNEL_NAMES, ProjectionSpec
from trak_cli.store.dtypes import FEATURE_DTYPES


@dataclass
class DatasetConfig:
    """The samples: a training set and target splits, each a map-style dataset. Row i of every result is sample i."""

    train: Any = key(None, "plugin: the training set")
    targets: dict[str, Any] = key({}, "split name -> plugin: the samples whose outputs are explained")
    collate: Any = key(None, "plugin: a function from a list of samples to a batch; null: PyTorch's default")
    replace: list[str] = key(
        [],
        "target splits whose samples may have changed: features of changed or missing samples, and all scores of the split, "
        "are removed before new features are computed",
    )


@dataclass
class CheckpointsConfig:
    """The trained model. A path, a glob pattern or a list of them instead of these keys means ``files``."""

    files: Any = key(
        None,
        "files (.safetensors, .pt, .bin, .ckpt and others) or folders (of save_pretrained, of the Hugging Face Trainer, of "
        "torch.distributed.checkpoint): a glob pattern or a list of them; several checkpoints are averaged; "
        "checkpoints=PATTERN means checkpoints.files=PATTERN",
    )
    allow: list[str] = key(
        [],
        "classes whose objects a file may hold besides the weights, such as argparse.Namespace; loading builds these objects",
    )
    key: str | None = key(
        None,
        "key of the weights in a file, such as ema or state.model; null: the only weights in the file that fit the model",
        not_empty=True,
    )


@dataclass
class ParametersConfig:
    """The parameters that samples are attributed through, by glob patterns over their names in the model."""

    include: list[str] = key(["*"], "parameters to attribute through", not_empty=True)
    exclude: list[str] = key([], "parameters to leave out of include")


@dataclass
class GradientsConfig:
    """How per-sample gradients are computed, or which representation is used instead."""

    engine: str = key(
        "auto",
        "engine that computes gradients; auto: the first of hooks, vmap and loop whose time on a few samples is within 25 % of "
        "the fastest; "
        "representation: no gradients",
        choices=("auto", *ENGINES, REPRESENTATION),
    )
    memory_mb: int = key(2048, "memory for the gradients of a microbatch, in MiB; the microbatch is chosen to fit", at_least=1)
    microbatch: int | None = key(
        None, "samples in one microbatch; null: as many as memory_mb allows, or with auto the fastest number", at_least=1
    )
    module: str | None = key(None, "representation only: the module whose output is the feature; null: the model itself")
    side: str = key("output", "representation only: whether the output or the input of that module is read", choices=SIDES)
    autocast: str | None = key(
        None,
        "dtype of model computation under torch.autocast, not with vmap; null: no autocast",
        choices=AUTOCAST_DTYPES,
    )
    terms: bool | None = key(
        None,
        "compute the Gram matrix over tokens instead of samples (a second pass over the training set); "
        "null: yes if the task defines terms",
    )
    classes: bool | None = key(
        None,
        "compute the Gram matrix over all classes instead of the true one (a second pass over the training set); "
        "null: yes if the task is a classification with three classes or more",
    )
    optimizer: str | None = key(
        None,
        "optimizer that trained the model; adam (Adam, AdamW): its second moments scale the gradients; "
        "null: read from the optimizer state in the checkpoints, else from the trainer plugin",
        choices=OPTIMIZERS,
    )
    moments: str | None = key(
        None,
        "second moments of the optimizer: checkpoint (from its state in the checkpoints) or samples (estimated from "
        "gradients of training samples); null: checkpoint if all checkpoints have them, else samples",
        choices=MOMENTS,
    )


@dataclass
class ProjectionConfig:
    """The random matrix that maps p gradient coordinates to dim features."""

    kind: str = key("sjlt", "random matrix: sjlt, factored (for large models), rademacher (as in the paper), gaussian, or none")
    dim: int = key(
        4096,
        "features of a sample; more features are more accurate and need more disk space; kind none keeps all p coordinates",
    )
    seed: int = key("${seed}", "seed of the matrix")
    nonzeros: int = key(4, "sjlt and factored only: entries per coordinate; dim must be a multiple of 16 times this number")
    factors: list[int] | None = key(
        None, "factored only: columns on the left and on the right of each weight, such as [16, 16]; null: derived from dim"
    )
    kernel: str = key(
        "auto",
        "implementation of the product with the matrix; the matrix is always the same",
        choices=("auto", *KERNEL_NAMES),
    )

    @property
    def spec(self) -> ProjectionSpec:
        """The matrix, without the implementation of the product with it."""
        spec = ProjectionSpec(**{item.name: getattr(self, item.name) for item in fields(ProjectionSpec)})
        return spec if spec.factors is None else replace(spec, factors=tuple(spec.factors))


@dataclass
class EnsembleConfig:
    """Cheap members of an ensemble: checkpoints that are derived from each checkpoint in memory and averaged with it."""

    members: int | None = key(
        None,
        "derived checkpoints for each checkpoint; null: 4 if there is only one checkpoint and the kind is fresh, otherwise 0",
        at_least=0,
    )
    kind: str | None = key(
        None,
        "mask (zeroes single weights), noise (added to the weights), dropout (zeroes units) or fresh (blends the weights with "
        "new initial ones, for models that are trained from the random weights of the model plugin); null: fresh if "
        "`trak train` made all checkpoints from such weights and features are gradients on one device, otherwise mask",
        choices=KINDS,
    )
    scale: float | None = key(
        None,
        "mask and dropout: the share that is zeroed; "
        "noise: standard deviation relative to the root mean square of each weight tensor; "
        "fresh: the share of the variance that is new; null: 0.25 for fresh, otherwise 0.1",
    )

    def scale_of(self, kind: str) -> float:
        """``scale``, or that of the kind."""
        return SCALES[kind] if self.scale is None else self.scale


@dataclass
class FeaturesConfig:
    """How features are stored, and how samples are read for them."""

    dtype: str = key("float32", "dtype of features on disk", choices=FEATURE_DTYPES)
    shard_rows: int | None = key(
        None,
        "samples in one file, which is also the unit of work, restarts and verification; "
        "null: as many as take one to two minutes, between 16 and 1024",
        at_least=1,
    )
    readers: int | None = key(
        None,
        "prefetch threads; values above 1 need a thread-safe dataset; 0: no prefetching; null: 1 on a GPU, 0 on a CPU",
        at_least=0,
    )


@dataclass(frozen=True)
class EstimatorConfig(EstimatorSpec):
    """How features become scores (docs/method.md has the formula), and which checkpoints are averaged."""

    name: str = key(MISSING, "name that results are stored under")
    average_over: list[str] = key(
        ["*"],
        "checkpoints to average over: glob patterns of their names in the store, with or without the digest",
        not_empty=True,
    )
    checkpoint_counts: list[int] = key(
        [],
        "finalize, score, eval-lds: for every N of the list, score with the first N of these checkpoints, "
        "stored as estimator NAME-N (top shows the last); []: with all of them, stored as NAME",
        at_least=1,
    )

    @property
    def spec(self) -> EstimatorSpec:
        """The estimator without its checkpoints."""
        return EstimatorSpec(**{item.name: getattr(self, item.name) for item in fields(EstimatorSpec)})

    @property
    def names(self) -> dict[str, int | None]:
        """The names under which scores are stored -> how many checkpoints they average; None: all of them."""
        return {f"{self.name}-{count}": count for count in self.checkpoint_counts} or {self.name: None}

    @property
    def shown(self) -> tuple[str, int | None]:
        """The last of ``names``, whose scores are shown, and how many checkpoints they average."""
        return list(self.names.items())[-1]


@dataclass
class ScoreConfig:
    """`trak score`: which targets are scored, and how much of the result is stored."""

    splits: list[str] | None = key(None, "target splits; null: all splits in the store")
    top_k: int | None = key(
        None, "store only this many most helpful and most harmful training samples per target; null: all scores", at_least=1
    )
    target_block: int = key(4096, "targets that are scored at a time", at_least=1)
    overwrite: bool = key(False, "replace scores that have the same estimator name but other settings")


@dataclass
class RefineConfig:
    """`trak refine`: scores of chosen targets, by solving linear systems in the space of all parameters."""

    split: str | None = key(None, "target split; null: the only one in the store")
    targets: list[int] | None = key(None, "rows of the split; null: all", at_least=0, not_empty=True)
    group: bool = key(False, "one row of scores, for the mean of f over the targets")
    candidates: int | None = key(
        None,
        "refine only this many of the highest and of the lowest scores that `trak score` has stored for a target, and store "
        "no others; null: every training sample",
        at_least=1,
    )
    name: str | None = key(None, "name that the scores are stored under; null: the estimator's, with _refined", not_empty=True)
    ridge: float | None = key(
        None,
        "damping λ, in units of what a training sample adds to the trace of the curvature on average; "
        "null: 1; 2 for a squared loss; 3 for two classes; five tokens if samples have more",
    )
    rows: int | None = key(
        None, "training samples that the curvature is computed from, evenly spaced; null: all of them", at_least=1
    )
    rank: int | None = key(
        None, "directions of the preconditioner; null: as many as targets of a block, at most 100; 0: none", at_least=0
    )
    iterations: int = key(50, "iterations of conjugate gradients, at most", at_least=1)
    tolerance: float = key(0.01, "residual, relative to the right-hand side, at which a system counts as solved")
    memory_mb: int = key(2048, "memory for the systems that are solved together, in MiB", at_least=1)
    overwrite: bool = key(False, "replace scores that have the same name but other settings")


@dataclass
class LdsConfig:
    """`trak eval-lds`: the ground truth that scores are evaluated against, and what is compared."""

    split: str | None = key(None, "target split; null: the only one in the store")
    ground_truth: str | None = key(
        None,
        "npz or HDF5 file with masks (or weights of the samples) and outputs; null: the results of `trak retrain`, by "
        "retrain.same_seed and retrain.run",
    )
    targets: list[int] | None = key(
        None, "rows of the split that are evaluated; null: all that are scored by everything that is compared", at_least=0
    )
    group: bool = key(False, "evaluate the mean output over the targets instead of each target")
    output: str = key(
        "f",
        "what scores should predict: f, or loss (the loss of the target, with its sign reversed; with retrain.same_seed only)",
        choices=("f", "loss"),
    )
    estimators: list[str] = key([], "names of other estimators in the store that are compared with the selected one")
    scores: dict[str, str] = key({}, "name -> file of your own scores (targets, training samples) that are compared too")
    baselines: list[str] = key([], "baselines fitted to the ground truth itself by cross-fitting", choices=tuple(BASELINES))
    bootstrap: int = key(1000, "bootstrap resamples for confidence intervals; 0: no intervals", at_least=0)
    plot: bool = key(True, "whether a plot is written")


@dataclass
class TuneConfig:
    """`trak tune`: the estimators that are searched with a ground truth, and where the best one is written."""

    grid: dict[str, list[Any]] = key(
        {
            "weight_exponent": [0.0, 0.5, 1.0],
            "unit_norm": [False, True],
            "averaging": ["kernels", "scores"],
            "metric": ["gram", "identity"],
            "weights": ["final", "early_training"],
            "gram_exponent": [0.0, 0.5, 1.0, 2.0],
            "ridge": [0.01, 0.03, 0.1, 0.3, 1.0, None, 3.0, 10.0, 30.0, 100.0, 300.0],
            "shrinkage": [0.0, 0.1],
            "soft_threshold": [0.0, 0.5, 0.8],
        },
        "estimator field -> values; all combinations are evaluated on half of the targets and half of the subsets, "
        "shrinkage and soft_threshold on the best combination of the other fields only",
        fields_of=EstimatorConfig,
    )
    targets: int = key(
        256, "largest number of targets in the search; the final evaluation uses all targets of the other half", at_least=1
    )
    name: str = key("tuned", "name of the estimator that is written")
    folder: str | None = key(
        None, "folder of your YAML files; the estimator is written to FOLDER/estimator/NAME.yaml; null: no file"
    )


@dataclass
class TrainConfig:
    """`trak train`: checkpoints from the trainer plugin. start and only_parameters apply to `trak retrain` too."""

    count: int = key(3, "checkpoints; number i is trained with seed + i", at_least=1)
    folder: str = key("${store}/checkpoints", "folder of the checkpoints", not_empty=True)
    snapshots: int = key(0, "also save a checkpoint every N epochs (this number); 0: only at the end", at_least=0)
    start: str | None = key(None, "checkpoint file that training continues from; null: training from scratch")
    only_parameters: bool = key(
        False,
        "train only the parameters that parameters.include and parameters.exclude choose, from a fresh initialisation; "
        "the others keep the values of start (or of the model plugin)",
    )


@dataclass
class RetrainConfig:
    """`trak retrain`: the ground truth of the LDS, from models trained on random subsets (docs/protocols.md)."""

    subsets: int = key(50, "number of random subsets", at_least=1)
    fraction: float | None = key(None, "share of the training set in each subset, between 0 and 1; null: 1 − drop")
    drop: float | None = key(
        None,
        "share of the training set that each subset leaves out, between 0 and 1; null: 1 − fraction, 0.5 if that is null too",
    )
    models_per_subset: int = key(
        1, "models trained on each subset; their outputs are averaged; with same_seed: of the runs run, run + 1, …", at_least=1
    )
    same_seed: bool = key(
        False,
        "false: models with seeds drawn from seed + 1000, trained on the subset alone; true: run number `run` of `trak train` "
        "itself, with its initialisation, batches and random states, where the samples that are left out have weight 0",
    )
    run: int = key(0, "same_seed only: the run that is retrained; number i was trained with seed + i", at_least=0)
    remove_top: list[str] = key(
        [],
        "same_seed only: estimators whose scores are tested too: the run is retrained without the highest scores of each of "
        "lds.targets (or of their mean, with lds.group), as many samples as a subset leaves out",
    )
    flip_top: list[str] = key(
        [],
        "same_seed only: estimators whose brittleness is measured: for each of lds.targets, the run is retrained without its "
        "highest scores, and bisection finds the smallest number of them, up to a tenth, whose removal turns f to 0 or below",
    )
    flip_most: float = key(0.3, "largest share of the training set that flip_top removes, between 0 and 1")

    @property
    def kept(self) -> float:
        """The share of the training set in each subset."""
        if self.drop is not None:
            return round(1 - self.drop, 12)
        return 0.5 if self.fraction is None else self.fraction

    @property
    def own_run(self) -> int | None:
        """The run that is retrained with its own seed; None for models with other seeds."""
        return self.run if self.same_seed else None


@dataclass
class UnrollConfig:
    """`trak unroll`: exact scores of chosen targets for one run of `trak train`, through all its training steps."""

    split: str | None = key(None, "target split; null: the only one", not_empty=True)
    targets: list[int] | None = key(
        None, "rows of the split to score, each of which costs a backward pass; null: all", at_least=0, not_empty=True
    )
    group: bool = key(False, "score the mean of f over these targets, which costs as much as one target")
    run: int = key(0, "run of `trak train` that is unrolled: number i is trained with seed + i", at_least=0)
    memory_mb: int = key(
        1024,
        "memory for states, graphs and derivatives, beside the model and its data, in MiB; with less memory, more steps are "
        "repeated",
        at_least=1,
    )
    block: int | None = key(
        None, "targets that are differentiated together in one sweep; null: as many as memory_mb allows, at most 32", at_least=1
    )
    removals: int = key(
        8,
        "trainings without random samples whose outputs are compared with the scores, to tell whether these can be trusted; "
        "0: no check",
        at_least=0,
    )
    drop: float = key(0.01, "share of the training set that each of these trainings leaves out")
    directions: int = key(
        0,
        "directions in which the metasmoothness of the training is measured; each costs two trainings without, or with half "
        "the weight of, random samples; 0: not measured",
        at_least=0,
    )
    save_minutes: float = key(5.0, "minutes between two saves of the progress of a sweep; 0: after every step", at_least=0)
    name: str = key("unroll", "estimator name that the scores are stored under", not_empty=True)
    overwrite: bool = key(False, "replace scores that have the same name but other settings")


@dataclass
class ClusterConfig:
    """`trak submit`: where the tasks of a stage run, and what each of them gets (docs/cluster.md)."""

    kind: str = key("slurm", "slurm (job arrays), or local (processes on this machine)", choices=("slurm", "local"))
    tasks: int = key(4, "tasks that share the work of a stage; with Slurm, the size of the job array", at_least=1)
    parallel: int | None = key(None, "tasks of a stage that run at a time; null: all", at_least=1)
    partition: str | None = key(None, "Slurm: partition; null: the default one", not_empty=True)
    account: str | None = key(None, "Slurm: account that is charged", not_empty=True)
    qos: str | None = key(None, "Slurm: quality of service", not_empty=True)
    gpus: int = key(0, "GPUs of a task; finalize and score use none", at_least=0)
    cpus: int | None = key(None, "Slurm: CPU cores of a task; null: the default of the partition", at_least=1)
    memory_gb: float | None = key(None, "Slurm: memory of a task, in GiB; null: the default of the partition")
    minutes: int | None = key(None, "time limit of a task, in minutes; null: the default of the partition", at_least=1)
    notice: int = key(120, "seconds before the time limit at which a task is told to stop", at_least=1)
    requeues: int = key(
        10, "how often a task that was told to stop, by its time limit or a preemption, is queued again to continue", at_least=0
    )
    setup: list[str] = key([], "lines of bash before the command of a task, such as `module load cuda`")
    sbatch: dict[str, Any] = key(
        {}, "Slurm: further options of sbatch, without the dashes: {constraint: a100, exclusive: true, mail-type: FAIL}"
    )
    stages: dict[str, Any] = key(
        {}, "stage -> keys of this section that differ for it: {finalize: {tasks: 1, memory_gb: 64, partition: cpu}}"
    )


@dataclass
class WorkerConfig:
    """The share of the work that this process does."""

    index: int | None = key(
        None,
        "number of this process, from 0; null: from the scheduler or launcher (docs/command_line.md), else all of the work",
        at_least=0,
    )
    count: int | None = key(None, "number of processes; null: from the scheduler or launcher", at_least=1)
    part_rows: int | None = key(
        None,
        "training rows of a unit of work of finalize, of compress, and of score with score.top_k; null: 16,384 to 65,536, "
        "fewer with more features; Gram matrices of other parts differ in their last bits",
        at_least=1,
    )


@dataclass
class TrakConfig:
    """The run. Relative paths start in the folder where trak is called."""

    name: str = key(MISSING, "name of the run; with a store and no name, the name of the store's folder", not_empty=True)
    store: str = key("runs/${name}", "folder of the run: features, scores and everything else", not_empty=True)
    device: str = key("auto", "auto (cuda if a GPU is available, else cpu), cpu, cuda or cuda:N")
    device_map: Any = key(
        None,
        "for a model larger than a GPU: module -> cpu, cuda:N or offload (its weights stay in CPU memory or in the file "
        "and are copied to `device` for each call), the rest is on `device`; auto: fill the GPUs in order, then offload",
    )
    threads: int | None = key(None, "CPU threads; null: PyTorch's default", at_least=1)
    seed: int = key(
        0, "seed of the projection, training, retraining (see retrain.same_seed), ensembles and resampling", at_least=0
    )
    vars: dict[str, Any] = key(
        {}, "values of your own to use in other keys: with vars: {root: /data}, ${vars.root}/a.pt means /data/a.pt"
    )
    extensions: list[str] = key([], "Python modules that are imported before anything else, for their registrations")
    model: Any = key(None, "plugin: the model that the checkpoints fit")
    task: Any = key(None, "plugin: the model output f(z; θ) to attribute")
    trainer: Any = key(None, "plugin: the training of `trak train` and `trak retrain`")
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    parameters: ParametersConfig = field(default_factory=ParametersConfig)
    gradients: GradientsConfig = field(default_factory=GradientsConfig)
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    lds: LdsConfig = field(default_factory=LdsConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    unroll: UnrollConfig = field(default_factory=UnrollConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    worker: WorkerConfig = field(default_factory=WorkerConfig)

    @property
    def against_blends(self) -> dict[str, object]:
        """The keys that are set and rule out members that are blended with fresh weights, with their values."""
        train = self.train
        keys = {"train.start": train.start, "train.only_parameters": train.only_parameters, "device_map": self.device_map}
        return {key: value for key, value in keys.items() if value}
