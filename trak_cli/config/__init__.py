"""The configuration: composed from YAML files and overrides, checked as a whole, handed on as plain dataclasses.

The only room that knows Hydra and OmegaConf.
"""

from trak_cli.config.files import config_groups
from trak_cli.config.load import Loaded, load
from trak_cli.config.needs import STAGES, Needs
from trak_cli.config.plugins import instantiate, target_of
from trak_cli.config.schema import (
    DatasetConfig,
    EstimatorConfig,
    FeaturesConfig,
    GradientsConfig,
    LdsConfig,
    ProjectionConfig,
    RetrainConfig,
    ScoreConfig,
    TrainConfig,
    TrakConfig,
    TuneConfig,
    WorkerConfig,
)

__all__ = [
    "STAGES",
    "DatasetConfig",
    "EstimatorConfig",
    "FeaturesConfig",
    "GradientsConfig",
    "LdsConfig",
    "Loaded",
    "Needs",
    "ProjectionConfig",
    "RetrainConfig",
    "ScoreConfig",
    "TrainConfig",
    "TrakConfig",
    "TuneConfig",
    "WorkerConfig",
    "config_groups",
    "instantiate",
    "load",
    "target_of",
]
