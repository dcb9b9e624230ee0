"""Models, datasets and trainers that the shipped configs name, and the reading of checkpoints and sample files."""

from trak_cli.plugins.archive import read_archive
from trak_cli.plugins.checkpoints import apply, dump, find, load, name_of, sha256
from trak_cli.plugins.derived import KINDS, Member, derive
from trak_cli.plugins.digits import Digits, SmallCNN
from trak_cli.plugins.files import SampleFile
from trak_cli.plugins.mlp import MLP
from trak_cli.plugins.resnet9 import ResNet9
from trak_cli.plugins.samples import check_length, check_repeatable, collate, sample_id
from trak_cli.plugins.sgd import AfterEpoch, SGDTrainer, Trainer

__all__ = [
    "KINDS",
    "MLP",
    "AfterEpoch",
    "Digits",
    "Member",
    "ResNet9",
    "SGDTrainer",
    "SampleFile",
    "SmallCNN",
    "Trainer",
    "apply",
    "check_length",
    "check_repeatable",
    "collate",
    "derive",
    "dump",
    "find",
    "load",
    "name_of",
    "read_archive",
    "sample_id",
    "sha256",
]
