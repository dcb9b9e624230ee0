"""Models, datasets and trainers that the shipped configs name, and the reading of checkpoints and sample files."""

from trak_cli.plugins.adamw import AdamWTrainer
from trak_cli.plugins.archive import read_archive
from trak_cli.plugins.checkpoints import apply, dump, find, load, name_of, sha256
from trak_cli.plugins.derived import KINDS, Member, derive
from trak_cli.plugins.digits import Digits, SmallCNN
from trak_cli.plugins.files import SampleFile
from trak_cli.plugins.images import (
    Cifar,
    ImageFile,
    ImageFolder,
    ImageTextPairs,
    hf_clip,
    hf_image_classifier,
    open_clip_model,
    timm_model,
    torchvision_model,
)
from trak_cli.plugins.mlp import MLP
from trak_cli.plugins.resnet9 import ResNet9
from trak_cli.plugins.samples import check_length, check_repeatable, collate, sample_id
from trak_cli.plugins.sgd import AfterEpoch, SGDTrainer, Trainer
from trak_cli.plugins.tables import Table

__all__ = [
    "KINDS",
    "MLP",
    "AdamWTrainer",
    "AfterEpoch",
    "Cifar",
    "Digits",
    "ImageFile",
    "ImageFolder",
    "ImageTextPairs",
    "Member",
    "ResNet9",
    "SGDTrainer",
    "SampleFile",
    "SmallCNN",
    "Table",
    "Trainer",
    "apply",
    "check_length",
    "check_repeatable",
    "collate",
    "derive",
    "dump",
    "find",
    "hf_clip",
    "hf_image_classifier",
    "load",
    "name_of",
    "open_clip_model",
    "read_archive",
    "sample_id",
    "sha256",
    "timm_model",
    "torchvision_model",
]
