"""What to do if a model refuses the shape of its input: often, images have another size than in its training."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch

from trak_cli.batches import map_leaves
from trak_cli.stages.inputs.split import Split

#: Texts of exceptions about shapes, by PyTorch and by models of images.
_ABOUT_SHAPES = re.compile(
    r"shapes? |size of tensor|input size|image size|expected input|expected \d+D|must match|kernel size|output size|"
    r"size mismatch|channels|dimension",
    re.IGNORECASE,
)


def shape_hint(error: BaseException, batch: Any, split: Split) -> str | None:
    """A remedy for an exception of a forward pass; None if it is not about shapes, or if the batch has no array."""
    if not _ABOUT_SHAPES.search(str(error)):
        return None
    shapes: list[tuple[int, ...]] = []

    def note(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.dim() > 1:
            shapes.append(tuple(leaf.shape))
        return leaf

    map_leaves(note, batch)
    if not shapes:
        return None
    got = f"samples must have the shape that the model was trained on; this batch has {', '.join(map(str, shapes))}"
    if any(len(shape) == 4 for shape in shapes) and (size := _size(split.dataset)):
        key = f"dataset.{'train' if split.name == 'train' else f'targets.{split.name}'}.{size}"
        got += f": give {key}=N, the size of the images in the training"
    return got


def _size(dataset: Any) -> str | None:
    """The argument of a data set that is the size of its images."""
    parameters = inspect.signature(type(dataset)).parameters
    return next((name for name in ("size", "image_size", "img_size") if name in parameters), None)
