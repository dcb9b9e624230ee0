"""Models, datasets and trainers that configurations name with ``_target_: trak_cli.plugins.NAME``."""

from trak_cli.plugins.adamw import AdamWTrainer
from trak_cli.plugins.digits import Digits, SmallCNN
from trak_cli.plugins.files import SampleFile
from trak_cli.plugins.images.arrays import ImageFile
from trak_cli.plugins.images.cifar import Cifar
from trak_cli.plugins.images.clip import hf_clip, open_clip_model
from trak_cli.plugins.images.folder import ImageFolder
from trak_cli.plugins.images.models import hf_image_classifier, timm_model, torchvision_model
from trak_cli.plugins.images.pairs import ImageTextPairs
from trak_cli.plugins.mlp import MLP
from trak_cli.plugins.resnet9 import ResNet9
from trak_cli.plugins.sgd import AfterEpoch, SGDTrainer, Trainer
from trak_cli.plugins.tables import Table

__all__ = [
    "MLP",
    "AdamWTrainer",
    "AfterEpoch",
    "Cifar",
    "Digits",
    "ImageFile",
    "ImageFolder",
    "ImageTextPairs",
    "ResNet9",
    "SGDTrainer",
    "SampleFile",
    "SmallCNN",
    "Table",
    "Trainer",
    "hf_clip",
    "hf_image_classifier",
    "open_clip_model",
    "timm_model",
    "torchvision_model",
]
