"""Which tensors of a checkpoint file are the weights of a model.

A *place* is a dotted name in the file under which all names of the model lie, with the model's shapes, and no others: the
key ``state_dict``, or ``state.model``, or the prefix ``generator.`` of flat names. Parts that wrappers add to names are left
out of the comparison wherever they stand, in the file and in the model. A prefix of all names of the model may be missing in
the file. The place must be the only one, unless all of them hold the same values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from trak_cli.plugins.checkpoints.formats.tensors import Entry, NamedTensors, as_tensor
from trak_cli.plugins.checkpoints.matching.tolerance import Tolerance

#: What wrappers add to names: DataParallel, torch.compile, activation checkpointing, FSDP, Lightning Fabric, Opacus.
WRAPPERS = frozenset(
    ("module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module", "_module", "_dp_module")
)

Parts = tuple[str, ...]


@dataclass
class Place:
    """A place in a file, and how the model fits it.

    Attributes:
        key: its dotted name, as ``checkpoints.key`` takes it; "." for the outermost mapping.
        names: name in the model -> name in the file, for all names that are there.
        missing, extra: names of the model and of the file without a counterpart.
        misshapen: names of the model whose tensor in the file has another shape.
    """

    parts: Parts
    key: str
    names: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every name of the model is there with its shape."""
        return not self.missing and not self.misshapen


class Matcher:
    """Compares the names and shapes of a model with those of a file."""

    def __init__(self, own: Mapping[str, Tensor], tensors: NamedTensors, tolerance: Tolerance) -> None:
        """A matcher for one model and one file.

        Args:
            own: the model's names and tensors; tied ones have several names.
            tensors: the tensors of the file.
            tolerance: the differences that do not count.
        """
        self._own, self._tensors, self._tolerance = own, tensors, tolerance
        self._tied: dict[int, list[str]] = {}
        for name, tensor in own.items():
            self._tied.setdefault(id(tensor), []).append(name)
        self._own_parts, self._file_parts = _bare(own), _bare(tensors)

    def places(self) -> list[Place]:
        """All places where at least one name of the model is found, the model's full names before shortened ones."""
        places: list[Place] = []
        for shortened in self._shortened():
            covered: dict[Parts, dict[str, str]] = {}
            for parts, name in self._file_parts.items():
                for cut in range(len(parts)):
                    own = shortened.get(parts[cut:])
                    if own is not None:
                        covered.setdefault(parts[:cut], {})[own] = name
            places += [self._place(prefix, names) for prefix, names in covered.items() if not _known(places, names)]
        inner = [place for place in places if place.complete]
        for place in places:
            place.extra = list(self._extra(place, inner))
        return places

    def _shortened(self) -> Iterator[dict[Parts, str]]:
        """The model's names in full and without what all of them begin with; last, tied tensors by their first names alone."""
        first = {parts: name for parts, name in self._own_parts.items() if self._tied[id(self._own[name])][0] == name}
        for names in (self._own_parts, first):
            for depth in range(_common(list(names)) + 1):
                yield {parts[depth:]: name for parts, name in names.items()}

    def _place(self, prefix: Parts, names: dict[str, str]) -> Place:
        place = Place(prefix, self._key(prefix, list(names.values())), names)
        for name, tensor in self._own.items():
            if name not in names:
                tied = any(other in names for other in self._tied[id(tensor)])
                if not tied and not self._tolerance.may_lack(name):
                    place.missing.append(name)
            elif not is_lazy(tensor) and self._tensors[names[name]].shape != tensor.shape:
                place.misshapen.append(name)
        return place

    def _extra(self, place: Place, complete: list[Place]) -> Iterator[str]:
        """Names in the place that the model lacks. Those of another complete place further in do not count."""
        used = set(place.names.values())
        holders = {self._tensors.holders.get(name, "") for name in used}
        inner = [other.parts for other in complete if len(other.parts) > len(place.parts)]
        for parts, name in self._file_parts.items():
            if name in used or parts[: len(place.parts)] != place.parts or self._tensors.holders.get(name, "") not in holders:
                continue
            if any(parts[: len(other)] == other for other in inner):
                continue
            if not self._tolerance.may_hold(".".join(parts[len(place.parts) :]), self._tensors[name]):
                yield name

    @staticmethod
    def _key(prefix: Parts, names: list[str]) -> str:
        """The shortest dotted name in the file for the prefix; without a prefix, the common beginning of all names."""
        raw = tuple(names[0].split("."))
        if not prefix:
            shared = raw[: _common([tuple(name.split(".")) for name in names])]
            return raw[0] if raw[0] in WRAPPERS and len(raw) > 1 else ".".join(shared) or "."
        return next(
            ".".join(raw[:length])
            for length in range(1, len(raw))
            if prefix in (raw[:length], tuple(part for part in raw[:length] if part not in WRAPPERS))
        )


def within(tensors: NamedTensors, key: str) -> NamedTensors:
    """The tensors under a dotted name; for ".", those that lie directly in the outermost mapping."""
    chosen = NamedTensors()
    for name, tensor in tensors.items():
        holder = tensors.holders[name]
        if name == key or name.startswith(f"{key}.") or (key == "." and not holder):
            chosen.add(name, tensor, holder)
    return chosen


def same_values(places: list[Place], tensors: NamedTensors) -> bool:
    """Whether all places hold equal tensors."""
    first, *others = places
    return all(
        _equal(tensors[file], tensors[first.names[name]])
        for other in others
        for name, file in other.names.items()
        if name in first.names
    )


def _equal(first: Entry, second: Entry) -> bool:
    return first is second or torch.equal(as_tensor(first), as_tensor(second))


def _known(places: list[Place], names: dict[str, str]) -> bool:
    """Whether an earlier place has these names, or is complete and has more of the same tensors."""
    files = set(names.values())
    return any(
        names.items() <= place.names.items() or (place.complete and files < set(place.names.values())) for place in places
    )


def _bare(names: Mapping[str, object]) -> dict[Parts, str]:
    """The parts of each name without those of wrappers -> the name. Names stay unchanged if two of them would become equal."""
    bare = {_modern([part for part in name.split(".") if part not in WRAPPERS]) or (name,): name for name in names}
    return bare if len(bare) == len(names) else {tuple(name.split(".")): name for name in names}


def _modern(parts: list[str]) -> Parts:
    """The parts of a name, with the current names of the parameters of weight_norm and LayerNorm."""
    weight_norm = {"weight_g": "original0", "weight_v": "original1"}
    layer_norm = {"gamma": "weight", "beta": "bias"}
    if parts and parts[-1] in weight_norm:
        return (*parts[:-1], "parametrizations", "weight", weight_norm[parts[-1]])
    if len(parts) > 1 and parts[-2] == "LayerNorm" and parts[-1] in layer_norm:
        return (*parts[:-1], layer_norm[parts[-1]])
    return tuple(parts)


def _common(names: list[Parts]) -> int:
    """The number of leading parts that all names share; at least the last part of each is not counted."""
    if not names:
        return 0
    shortest = min(map(len, names)) - 1
    return next((depth for depth in range(shortest) if len({parts[depth] for parts in names}) > 1), shortest)
