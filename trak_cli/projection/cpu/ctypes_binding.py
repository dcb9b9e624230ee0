"""The compiled CPU kernels: the shared library that setup.py built, and the types of its functions.

The library is plain C (``kernels/*.c``), called through ctypes, which releases the interpreter lock during a call.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int64, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

#: The result of ``trak_interface`` in a library built from the C files of this version.
INTERFACE = 3

_KIND = {"rademacher": 0, "gaussian": 1, "sjlt": 2}


class CJob(ctypes.Structure):
    """``struct job`` of kernels/job.h, field by field."""

    _fields_ = (
        ("gradient", c_void_p),
        ("stride", c_int64),
        ("rows", c_int64),
        ("offset", c_int64),
        ("length", c_int64),
        ("stream", c_uint64),
        ("column", c_int64),
        ("columns", c_int64),
        ("nonzeros", c_int64),
        ("table", c_void_p),
        ("pending", c_int64),
        ("partial", c_void_p),
        ("total", c_void_p),
        ("scratch", c_void_p),
    )


class CFactors(ctypes.Structure):
    """``struct factors`` of kernels/job.h, field by field."""

    _fields_ = (
        ("left", c_void_p),
        ("right", c_void_p),
        ("terms", c_int64),
        ("rows", c_int64),
        ("columns", c_int64),
        ("left_sample", c_int64),
        ("left_term", c_int64),
        ("left_row", c_int64),
        ("right_sample", c_int64),
        ("right_term", c_int64),
    )


@dataclass(frozen=True)
class Library:
    """The loaded library, and the instruction sets that this processor supports.

    Attributes:
        scratch_bytes: working memory of one call.
        max_columns: the most columns of a job of a dense kind.
        variants: name ("c-avx512", "c-avx2", "c-portable") -> number, best first.
    """

    handle: ctypes.CDLL
    scratch_bytes: int
    max_columns: int
    variants: dict[str, int]

    def key(self, variant: str, kind: str) -> tuple[int, int]:
        """The numbers of an instruction set and of a kind of matrix, the first arguments of the functions for a job."""
        return self.variants[variant], _KIND[kind]


def missing(variant: str | None = None) -> str | None:
    """Why the compiled kernels, or those for one instruction set, cannot run here; None if they can."""
    loaded = _load()
    if isinstance(loaded, str):
        return loaded
    return None if variant is None or variant in loaded.variants else "this processor does not support its instructions"


def library() -> Library:
    """The loaded library; call it only if :func:`missing` returns None."""
    loaded = _load()
    if isinstance(loaded, str):
        raise RuntimeError(loaded)
    return loaded


@cache
def _load() -> Library | str:
    """The library, or the reason why there is none."""
    spec = find_spec("trak_cli.projection.kernels._cpu")
    if spec is None or spec.origin is None:
        return "it was not built when trak was installed, which needs a C compiler"
    try:
        handle = ctypes.CDLL(spec.origin)
    except OSError as error:
        return f"it does not load: {error}"
    if not hasattr(handle, "trak_interface") or handle.trak_interface() != INTERFACE:
        return "it was built from another version of trak: install trak again"
    _declare(handle)
    return Library(handle, handle.trak_scratch_bytes(), handle.trak_max_columns(), _supported(handle))


def _declare(handle: ctypes.CDLL) -> None:
    """Argument and result types of every function of kernels/library.c.

    ``trak_floats`` gives the number of running sums of a job of some rows and columns. ``trak_project`` adds the gradient of a
    job to its sums, ``trak_project_rows`` one gradient of ``job.length`` coordinates for each of m rows (int64) of a matrix,
    and ``trak_project_factors`` (kind sjlt only) gradients that are given as factors. ``trak_read`` adds the sums times a
    number to float32 rows with a stride.
    """
    number, job = c_int64, POINTER(CJob)
    for name, result, arguments in (
        ("trak_variant_name", c_char_p, (number,)),
        ("trak_variant_supported", number, (number,)),
        ("trak_scratch_bytes", number, ()),
        ("trak_max_columns", number, ()),
        ("trak_floats", number, (number, number, number, number)),
        ("trak_project", None, (number, number, job)),
        ("trak_project_rows", None, (number, number, job, c_void_p, number)),
        ("trak_project_factors", None, (number, job, POINTER(CFactors))),
        ("trak_read", None, (number, number, job, c_double, c_void_p, number)),
    ):
        function = getattr(handle, name)
        function.restype, function.argtypes = result, arguments


def _supported(handle: ctypes.CDLL) -> dict[str, int]:
    variants = {}
    number = 0
    while (name := handle.trak_variant_name(number)) is not None:
        if handle.trak_variant_supported(number):
            variants[name.decode()] = number
        number += 1
    return variants
