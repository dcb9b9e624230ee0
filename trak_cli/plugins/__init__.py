"""Models, datasets and trainers that configurations name with ``_target_: trak_cli.plugins.NAME``.

Each name is imported on first use, so that a program that needs one part does not import PyTorch for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trak_cli.lazy_names import lazy_names

if TYPE_CHECKING:
    from trak_cli.plugins.digits import Digits as Digits
    from trak_cli.plugins.digits import SmallCNN as SmallCNN
    from trak_cli.plugins.files import SampleFile as SampleFile
    from trak_cli.plugins.images.arrays import ImageFile as ImageFile
    from trak_cli.plugins.images.cifar import Cifar as Cifar
    from trak_cli.plugins.images.clip import hf_clip as hf_clip
    from trak_cli.plugins.images.clip import open_clip_model as open_clip_model
    from trak_cli.plugins.images.folder import ImageFolder as ImageFolder
    from trak_cli.plugins.images.models import hf_image_classifier as hf_image_classifier
    from trak_cli.plugins.images.models import timm_model as timm_model
    from trak_cli.plugins.images.models import torchvision_model as torchvision_model
    from trak_cli.plugins.images.pairs import ImageTextPairs as ImageTextPairs
    from trak_cli.plugins.lightning import lightning_data as lightning_data
    from trak_cli.plugins.mlp import MLP as MLP
    from trak_cli.plugins.resnet9 import ResNet9 as ResNet9
    from trak_cli.plugins.tables import Table as Table
    from trak_cli.plugins.trainers.adamw import AdamWTrainer as AdamWTrainer
    from trak_cli.plugins.trainers.contract import AfterEpoch as AfterEpoch
    from trak_cli.plugins.trainers.contract import Trainer as Trainer
    from trak_cli.plugins.trainers.sgd import SGDTrainer as SGDTrainer
    from trak_cli.plugins.trainers.step_trainer import Step as Step
    from trak_cli.plugins.trainers.step_trainer import StepTrainer as StepTrainer

#: Public name -> module inside this package.
_MODULES = {
    "AdamWTrainer": "trainers.adamw",
    "Digits": "digits",
    "SmallCNN": "digits",
    "SampleFile": "files",
    "ImageFile": "images.arrays",
    "Cifar": "images.cifar",
    "hf_clip": "images.clip",
    "open_clip_model": "images.clip",
    "ImageFolder": "images.folder",
    "hf_image_classifier": "images.models",
    "timm_model": "images.models",
    "torchvision_model": "images.models",
    "ImageTextPairs": "images.pairs",
    "lightning_data": "lightning",
    "MLP": "mlp",
    "ResNet9": "resnet9",
    "AfterEpoch": "trainers.contract",
    "SGDTrainer": "trainers.sgd",
    "Step": "trainers.step_trainer",
    "StepTrainer": "trainers.step_trainer",
    "Trainer": "trainers.contract",
    "Table": "tables",
}

__all__ = list(_MODULES)

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
