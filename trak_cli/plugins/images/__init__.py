"""Image models by name, and images in folders, in CIFAR's binary files and in files of arrays."""

from trak_cli.plugins.images.arrays import ImageFile
from trak_cli.plugins.images.cifar import Cifar
from trak_cli.plugins.images.clip import hf_clip, open_clip_model
from trak_cli.plugins.images.folder import ImageFolder
from trak_cli.plugins.images.models import hf_image_classifier, timm_model, torchvision_model
from trak_cli.plugins.images.pairs import ImageTextPairs, Tokens, pair
from trak_cli.plugins.images.transform import ImageTransform

__all__ = [
    "Cifar",
    "ImageFile",
    "ImageFolder",
    "ImageTextPairs",
    "ImageTransform",
    "Tokens",
    "hf_clip",
    "hf_image_classifier",
    "open_clip_model",
    "pair",
    "timm_model",
    "torchvision_model",
]
