"""Samples that are in no data set, made from a record of named values such as {"text": …} or {"image": FILE, "label": …}.

A data set makes them by a method ``sample_from(record)``, which returns what ``__getitem__`` returns. For a data set without
it, :func:`sample_like` makes samples of numbers and texts in the form of one of its own samples, and of an image file if the
data set has a ``transform`` as those of torchvision have.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.optional import needed
from trak_cli.plurals import counted
from trak_cli.types import listed

#: Names of the label of a sample, and of its input where it is one array.
LABELS = ("label", "labels", "target", "y")
INPUTS = ("row", "input", "inputs", "x", "image")

_HOOK = "give the values of the sample as --sample JSON, or define sample_from(record) in the data set (docs/ask.md)"


def by_role(record: Mapping[str, Any], roles: Mapping[str, str], optional: Collection[str] = ()) -> dict[str, Any]:
    """The values of a record by what they are to a data set.

    Args:
        roles: role -> its name in the data set, such as a column; the record may use either.
        optional: roles that may be absent.

    Raises:
        InputError: a value that the data set does not know, or that is missing.
    """
    names = {**{column: role for role, column in roles.items()}, **{role: role for role in roles}}
    values = {names[name]: value for name, value in record.items() if name in names}
    known = ", ".join(f"{column} ({role})" if column != role else role for role, column in roles.items())
    InputError.raise_for(
        Problem(name, "a value that this data set does not have", f"values of: {known}", "leave it out, or correct its name")
        for name in record
        if name not in names
    )
    InputError.raise_for(
        Problem(roles[role], "no value", f"a value of each of: {known}", f"give it: --field {roles[role]}=VALUE")
        for role in roles
        if role not in values and role not in optional
    )
    return values


def class_number(value: Any, classes: Sequence[str] | None) -> int:
    """The number of a class that is given by its name or number.

    Raises:
        InputError: no such class.
    """
    names = [str(name) for name in classes or ()]
    if str(value) in names:
        return names.index(str(value))
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0 or str(number) != str(value).strip() or (names and number >= len(names)):
        expected = f"a class: {listed(names)}" if names else "the number of a class"
        raise InputError(Problem("label", f"{value!r:.60}", expected, "correct the label"))
    return number


def labelled_image(record: Mapping[str, Any], shape: Sequence[int]) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], int]:
    """The ``image`` of a record, resized to ``shape``, (channels, H, W) uint8; and its ``label``, the number of its class.

    Raises:
        ConfigError: Pillow is not installed.
        InputError: a value is missing or unknown, or no such image.
    """
    values = by_role(record, {"image": "image", "label": "label"})
    return _pixels(values["image"], shape), class_number(values["label"], None)


def sample_like(dataset: Any, record: Any) -> Any:
    """A sample in the form of ``dataset[0]``: tensors of the same dtype, texts, numbers, tuples and mappings of them.

    Args:
        record: the values by name, or the sample as lists and mappings of numbers and texts.

    Raises:
        InputError: values that do not fit that form.
    """
    template = dataset[0]
    values = record
    if isinstance(record, Mapping):
        record = dict(record)
        for name in LABELS:
            if name in record and getattr(dataset, "classes", None):
                record[name] = class_number(record[name], dataset.classes)
        if "image" in record and callable(getattr(dataset, "transform", None)):
            record["image"] = dataset.transform(opened_image(record["image"]).convert("RGB"))
        values = _arranged(record, template)
    return mirrored(values, template, "sample")


def _arranged(record: Mapping[str, Any], template: Any) -> Any:
    """The values of a record in the places of the template."""
    if isinstance(template, Mapping):
        free = [name for name in template if name not in record and name not in LABELS]
        label = next((name for name in template if name in LABELS), None)
        renamed = {}
        for name, value in record.items():
            known = name if name in template else label if name in LABELS else free[0] if len(free) == 1 else name
            renamed[known] = value
        return renamed
    if isinstance(template, tuple | list):
        rest = [value for name, value in record.items() if name not in LABELS]
        labels = [value for name, value in record.items() if name in LABELS]
        return [*rest, *labels]
    return next(iter(record.values())) if len(record) == 1 else record


def mirrored(value: Any, template: Any, where: str) -> Any:
    """The value in the form of the template: with its types, dtypes and numbers of dimensions.

    Raises:
        InputError: it does not fit.
    """
    if isinstance(template, Mapping):
        given = value if isinstance(value, Mapping) else {}
        if set(given) != set(template):
            found = f"the values {', '.join(map(str, given)) or 'of no name'}"
            raise InputError(Problem(where, found, f"those of its samples: {', '.join(map(str, template))}", _HOOK))
        return {name: mirrored(given[name], template[name], f"{where}: {name}") for name in template}
    if isinstance(template, tuple | list):
        if not isinstance(value, tuple | list) or (isinstance(template, tuple) and len(value) != len(template)):
            found = counted(len(value), "value") if isinstance(value, tuple | list) else f"{value!r:.60}"
            raise InputError(Problem(where, found, f"{counted(len(template), 'value')}, as its samples have", _HOOK))
        parts = template if isinstance(template, tuple) or len(value) == len(template) else [template[0]] * len(value)
        made = [
            mirrored(one, part, f"{where}: value {place}") for place, (one, part) in enumerate(zip(value, parts, strict=True))
        ]
        return tuple(made) if isinstance(template, tuple) else made
    if isinstance(template, torch.Tensor):
        return _tensor(value, template, where)
    if isinstance(template, np.ndarray | np.generic):
        return _tensor(value, torch.as_tensor(template), where).numpy().astype(template.dtype)[()]
    if isinstance(template, str | bool | int | float):
        return _scalar(value, type(template), where)
    if value is None and template is None:
        return None
    found = f"a sample with a {type(template).__name__}"
    raise InputError(Problem(where, found, "tensors, numbers and texts, for samples without sample_from", _HOOK))


def _tensor(value: Any, template: torch.Tensor, where: str) -> torch.Tensor:
    try:
        made = torch.as_tensor(np.asarray(float(value) if isinstance(value, str) else value))
    except (TypeError, ValueError):
        made = torch.empty(0, 0)
        found = f"{value!r:.60}"
    else:
        found = f"numbers of shape {tuple(made.shape)}"
        if made.numel() == template.numel():
            made = made.reshape(template.shape)
        whole = template.is_floating_point() or not made.is_floating_point() or bool((made == made.round()).all())
        if made.dim() == template.dim() and whole:
            return made.to(template.dtype)
    raise InputError(Problem(where, found, f"{template.dtype} of shape {tuple(template.shape)}", _HOOK))


def _scalar(value: Any, kind: type, where: str) -> Any:
    try:
        made = kind(value) if kind is not bool else {"true": True, "false": False}[str(value).lower()]
    except (TypeError, ValueError, KeyError):
        made = None
    if made is None or (kind is int and isinstance(value, float) and value != made):
        raise InputError(Problem(where, f"{value!r:.60}", f"a value of type {kind.__name__}", _HOOK))
    return made


def _pixels(path: Any, shape: Sequence[int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    pil = needed("PIL.Image", "vision", "dataset")
    channels, height, width = shape
    image = opened_image(path).convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), pil.Resampling.BILINEAR)
    array = np.array(image, dtype=np.uint8).reshape(height, width, -1)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def opened_image(path: Any) -> Any:
    """The image of a file, a PIL image.

    Raises:
        ConfigError: Pillow is not installed.
        InputError: there is no image that can be read.
    """
    pil = needed("PIL.Image", "vision", "dataset")
    try:
        image = pil.open(str(path))
        image.load()
    except (OSError, ValueError, SyntaxError, pil.DecompressionBombError) as error:
        found = f"no image that can be read ({error})"
        raise InputError(Problem(str(path), found, "an image file", "correct the path")) from error
    return image
