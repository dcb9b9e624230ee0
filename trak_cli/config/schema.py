"""The typed schema of the composed configuration: every key, its type and its default.

Nodes that name a plugin (``_target_: module.Name`` plus arguments) are plain mappings here and become objects only when
a stage asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import II, MISSING


@dataclass
class DatasetConfig:
    """The training set and the target splits; each node names a map-style dataset."""

    train: Any = None
    targets: dict[str, Any] = field(default_factory=dict)
    collate: Any = None


@dataclass
class ParametersConfig:
    """The parameters that samples are attributed through; glob patterns over their names."""

    include: list[str] = field(default_factory=lambda: ["*"])
    exclude: list[str] = field(default_factory=list)


@dataclass
class GradientsConfig:
    """How per-sample gradients are computed, or which representation replaces them."""

    engine: str = "auto"
    memory_mb: int = 2048
    microbatch: int | None = None
    module: str | None = None
    side: str = "output"
    autocast: str | None = None
    terms: bool | None = None
    optimizer: str | None = None


@dataclass
class ProjectionConfig:
    """The random matrix: what it is, and which kernel multiplies by it."""

    kind: str = "sjlt"
    dim: int = 4096
    seed: int = II("seed")
    nonzeros: int = 4
    factors: list[int] | None = None
    kernel: str = "auto"


@dataclass
class EnsembleConfig:
    """Members that are derived from each checkpoint in memory; see :mod:`trak_cli.plugins.checkpoints.derived`."""

    members: int = 0
    kind: str = "mask"
    scale: float = 0.1


@dataclass
class FeaturesConfig:
    """How features are stored, and how the samples for them are read."""

    dtype: str = "float32"
    shard_rows: int = 1024
    readers: int | None = None


@dataclass
class EstimatorConfig:
    """One member of the estimator family; see docs/method.md for the formula that the fields fill in."""

    name: str = MISSING
    metric: str = "gram"
    gram_exponent: float = 0.0
    front_exponent: float = 1.0
    unit_norm: bool = False
    ridge: str = "auto"
    weights: str = "final"
    averaging: str = "kernels"
    equal_targets: bool = False
    clip_norm: float = 0.0
    shrinkage: float = 0.0
    soft_threshold: float = 0.0
    checkpoints: list[str] = field(default_factory=lambda: ["*"])


@dataclass
class ScoreConfig:
    """Which targets are scored, and how much of the result is kept."""

    splits: list[str] | None = None
    top_k: int | None = None
    target_block: int = 4096
    overwrite: bool = False


@dataclass
class LdsConfig:
    """What scores are evaluated against, and how."""

    split: str | None = None
    ground_truth: str | None = None
    estimators: list[str] = field(default_factory=list)
    scores: dict[str, str] = field(default_factory=dict)
    baselines: list[str] = field(default_factory=list)
    bootstrap: int = 1000
    plot: bool = True


@dataclass
class TuneConfig:
    """`trak tune`: the grid of estimator fields that is searched, and where the best estimator is written."""

    grid: dict[str, list[Any]] = field(
        default_factory=lambda: {
            "front_exponent": [0.0, 0.5, 1.0],
            "unit_norm": [False, True],
            "averaging": ["kernels", "scores"],
            "metric": ["gram", "identity"],
            "weights": ["final", "trajectory"],
            "gram_exponent": [0.0, 0.5, 1.0, 2.0],
            "ridge": ["0.01w", "0.03w", "0.1w", "0.3w", "1w", "2w|0.3n", "3w", "10w", "30w", "100w", "300w"],
            "shrinkage": [0.0, 0.1],
            "soft_threshold": [0.0, 0.5, 0.8],
        },
        metadata={"fields_of": EstimatorConfig},
    )
    targets: int = 256
    name: str = "tuned"
    folder: str | None = None


@dataclass
class TrainConfig:
    """`trak train`: how many checkpoints; what they start from and what of them is trained."""

    count: int = 3
    folder: str = "${store}/checkpoints"
    snapshots: int = 0
    start: str | None = None
    only_parameters: bool = False


@dataclass
class RetrainConfig:
    """`trak retrain`: the ground truth of the LDS."""

    subsets: int = 50
    fraction: float = 0.5
    models_per_subset: int = 1


@dataclass
class WorkerConfig:
    """Which part of the shards this process takes; null: from the cluster's environment, else all of them."""

    index: int | None = None
    count: int | None = None


@dataclass
class TrakConfig:
    """The whole configuration."""

    name: str = MISSING
    store: str = "runs/${name}"
    device: str = "auto"
    threads: int | None = None
    seed: int = 0
    extensions: list[str] = field(default_factory=list)
    checkpoints: Any = None
    model: Any = None
    task: Any = None
    trainer: Any = None
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    parameters: ParametersConfig = field(default_factory=ParametersConfig)
    gradients: GradientsConfig = field(default_factory=GradientsConfig)
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    lds: LdsConfig = field(default_factory=LdsConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    worker: WorkerConfig = field(default_factory=WorkerConfig)
