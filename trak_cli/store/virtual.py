"""Complete dense scores: one virtual dataset (targets, n) over the score files, for any program that reads HDF5.

Other programs follow the virtual dataset. This one reads the list of sources in the attribute ``sources``, and each source
as a file of its own with its digest: a missing source (which HDF5 reads as the fill value) or a damaged one is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from trak_cli.errors import Problem, StoreError
from trak_cli.plurals import counted
from trak_cli.store.atomic_write import replace
from trak_cli.store.chosen_targets import ChosenTargets
from trak_cli.store.container import hdf5_payload, read_image, write_text
from trak_cli.store.failures import ForeignError, MissingError, foreign, missing, reading
from trak_cli.store.fingerprint import canonical
from trak_cli.store.hdf5_validation import opened, root_documents
from trak_cli.store.header import CREATED_BY, VIRTUAL, load, read_header, seal
from trak_cli.store.tiling import Source, bounds, overlap, require_tiling
from trak_cli.types import Float32, IntArray, Json, Rows

DATASET = "scores"


@dataclass(frozen=True)
class WholeScores:
    """The file that :func:`assemble` wrote.

    Attributes:
        path: the file.
        shape: (targets, n).
        sources: the score files, with the content digest of each.
        fingerprint, provenance: as given.
        content: digest of the fingerprint and of every source's content.
        chosen: the targets; None for every row of the split.
    """

    path: Path
    shape: tuple[int, int]
    sources: tuple[tuple[Source, str], ...]
    fingerprint: Json
    provenance: Json
    content: str
    chosen: ChosenTargets | None = None

    @property
    def target_rows(self) -> IntArray | None:
        """(m,) the rows of the split that the scores belong to, in order; None for every row of the split."""
        return None if self.chosen is None else np.array(self.chosen.rows, np.int64)

    @property
    def group(self) -> bool:
        """Whether the scores have one row, of the mean of f over ``target_rows``."""
        return self.chosen is not None and self.chosen.group


def assemble(path: Path, sources: Sequence[Source], shape: tuple[int, int], fingerprint: Json, provenance: Json) -> None:
    """Write the virtual dataset of ``shape`` over ``sources``, replacing an existing one.

    The sources are in the folder of ``path`` or below, and named relative to it, so that the store can be moved.

    Raises:
        StoreError: with a problem for each source that is missing, damaged or of another shape or dtype, or because
            they do not cover ``shape`` exactly once; or the fingerprint names another number of chosen targets.
        MachineError: a file cannot be read or written.
    """
    _chosen(path, fingerprint, shape[0])
    require_tiling(path, sources, shape)
    sources = sorted(sources, key=lambda source: (source.targets.start, source.train.start))
    contents = _check_sources(sources)
    names = [source.path.relative_to(path.parent).as_posix() for source in sources]
    listed = [
        {"path": name, "targets": bounds(source.targets), "train": bounds(source.train), "content": content}
        for name, source, content in zip(names, sources, contents, strict=True)
    ]
    texts = {
        "created_by": CREATED_BY,
        "fingerprint": canonical(fingerprint),
        "provenance": canonical(provenance),
        "sources": canonical({"sources": listed}),
    }

    def fill(file: h5py.File) -> None:
        # h5py's own create_virtual_dataset stores the time: equal scores would not give equal bytes.
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_obj_track_times(False)
        created.set_fill_value(np.array(np.nan, "<f4"))
        for name, source in zip(names, sources, strict=True):
            place = h5py.h5s.create_simple(shape)
            place.select_hyperslab((source.targets.start, source.train.start), source.shape)
            # HDF5 reads a percent sign in the name of a source as the start of a pattern.
            file_name = name.replace("%", "%%").encode()
            created.set_virtual(place, file_name, DATASET.encode(), h5py.h5s.create_simple(source.shape))
        float32, space = h5py.h5t.py_create(np.dtype("<f4")), h5py.h5s.create_simple(shape)
        dataset = h5py.h5d.create(file.id, DATASET.encode(), float32, space, dcpl=created)
        write_text(h5py.Dataset(dataset), "dtype", "float32")

    content = hashlib.sha256((texts["fingerprint"] + texts["sources"]).encode()).hexdigest()
    replace(path, seal(hdf5_payload(fill, texts), content, VIRTUAL))


def is_assembled(path: Path, sources: Sequence[Source]) -> bool:
    """Whether ``path`` lists these sources with their present content: one computed again may differ in its last bits.

    Raises:
        MissingError, DamagedError, ForeignError, MachineError: for a source, or for ``path`` if it exists.
    """
    if not path.exists():
        return False
    return set(open_scores(path).sources) == {(source, read_header(source.path).content) for source in sources}


def open_scores(path: Path) -> WholeScores:
    """Read and check the file that :func:`assemble` wrote, but not its sources.

    Raises:
        MissingError, DamagedError, ForeignError, MachineError.
    """
    header, data = load(path)
    if header.kind != VIRTUAL:
        raise foreign(path, "a file that holds its own values", "the virtual dataset of whole scores")
    with opened(path, data, VIRTUAL) as file:
        if list(file) != [DATASET] or len(file[DATASET].shape) != 2 or file[DATASET].dtype != np.float32:
            raise foreign(path, f"the datasets {list(file)}", f"{DATASET!r} alone, (targets, n) float32")
        rows, columns = file[DATASET].shape
        documents = root_documents(path, file, VIRTUAL)
        fingerprint, provenance, listed = documents["fingerprint"], documents["provenance"], documents["sources"]["sources"]
        mapped = {mapping.file_name.replace("%%", "%") for mapping in file[DATASET].virtual_sources()}
        if mapped != {str(entry["path"]) for entry in listed}:
            raise foreign(path, "a virtual dataset over other files than the listed ones", "the listed sources")
        sources = tuple((_source(path, entry), str(entry["content"])) for entry in listed)
    require_tiling(path, [source for source, _ in sources], (rows, columns))
    chosen = _chosen(path, fingerprint, rows)
    return WholeScores(path, (rows, columns), sources, fingerprint, provenance, header.content, chosen)


def score_blocks(scores: WholeScores, targets: Rows | None = None) -> Iterator[tuple[Rows, Rows, Float32]]:
    """The scores, source by source: (targets, training rows, block of that shape), only those of ``targets`` if given.

    Raises:
        MissingError: before the first block, with a problem for each source that does not exist.
        DamagedError, ForeignError: a source is damaged, or has changed since the scores were assembled.
    """
    wanted = _wanted(scores, targets)
    for source, block in _read_listed(scores, lambda source: len(overlap(source.targets, wanted)) > 0):
        shared = overlap(source.targets, wanted)
        yield shared, source.train, block[shared.start - source.targets.start : shared.stop - source.targets.start]


def read_scores(path: Path, targets: Rows | None = None) -> Float32:
    """The scores of ``targets`` (all if None) for every training row: (targets, n) float32.

    Raises:
        MissingError, DamagedError, ForeignError, MachineError: for ``path`` or a source.
    """
    scores = open_scores(path)
    wanted = _wanted(scores, targets)
    with reading(path):
        whole = np.full((len(wanted), scores.shape[1]), np.nan, dtype=np.float32)
    for rows, train, block in score_blocks(scores, wanted):
        whole[rows.start - wanted.start : rows.stop - wanted.start, train.start : train.stop] = block
    return whole


def pick_scores(path: Path, targets: IntArray, train: IntArray) -> Float32:
    """The scores at some positions of targets and some training rows, (len(targets), len(train)) float32.

    Only the sources that hold some of them are read, one at a time.

    Raises:
        MissingError, DamagedError, ForeignError, MachineError: for ``path`` or a source.
    """
    scores = open_scores(path)
    with reading(path):
        picked = np.full((len(targets), len(train)), np.nan, dtype=np.float32)

    def places(source: Source) -> tuple[IntArray, IntArray]:
        return _inside(targets, source.targets), _inside(train, source.train)

    for source, block in _read_listed(scores, lambda source: all(some.size for some in places(source))):
        rows, columns = places(source)
        inside = np.ix_(targets[rows] - source.targets.start, train[columns] - source.train.start)
        picked[np.ix_(rows, columns)] = block[inside]
    return picked


def _inside(wanted: IntArray, span: Rows) -> IntArray:
    """The places in ``wanted`` of the numbers in a range."""
    return np.flatnonzero((wanted >= span.start) & (wanted < span.stop))


def _read_listed(scores: WholeScores, is_wanted: Callable[[Source], bool]) -> Iterator[tuple[Source, Float32]]:
    """The listed sources that are wanted, with the values of each.

    Raises:
        MissingError: before the first of them, with a problem for each that does not exist.
        DamagedError, ForeignError: one is damaged, or has changed since the scores were assembled.
    """
    chosen = [(source, content) for source, content in scores.sources if is_wanted(source)]
    absent = [problem for source, _ in chosen if not source.path.exists() for problem in missing(source.path).problems]
    if absent:
        raise MissingError(absent)
    for source, content in chosen:
        block, found = _read_source(source)
        if found != content:
            raise _changed_since(scores.path, source.path, found, content)
        yield source, block


def _wanted(scores: WholeScores, targets: Rows | None) -> Rows:
    every = Rows(0, scores.shape[0])
    if targets is not None and overlap(targets, every) != targets:
        raise ValueError(f"targets {targets} are not in {every}")
    return every if targets is None else targets


def _read_source(source: Source) -> tuple[Float32, str]:
    image = read_image(source.path, only=(DATASET,))
    block = image.arrays[DATASET]
    if block.shape != source.shape or block.dtype != np.float32:
        raise foreign(source.path, f"scores {block.shape} {block.dtype}", f"{source.shape} float32")
    return block, image.content


def _changed_since(path: Path, source: Path, found: str, listed: str) -> ForeignError:
    """The error for a source that has been written again with other content."""
    expected = f"{listed[:12]}, as when the scores were assembled in {path}"
    remedy = "run trak score again: it assembles the scores again without computing them"
    return ForeignError(Problem(str(source), f"content {found[:12]}", expected, remedy))


def _check_sources(sources: Sequence[Source]) -> list[str]:
    contents: list[str] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            contents.append(_read_source(source)[1])
        except StoreError as error:
            problems += error.problems
    if problems:
        raise StoreError(problems)
    return contents


def _source(path: Path, entry: Any) -> Source:
    """A listed source; a path outside the folder of ``path`` is refused."""
    relative = PurePosixPath(str(entry["path"]))
    if relative.is_absolute() or ".." in relative.parts:
        raise foreign(path, f"the source {str(relative)!r}", "sources in the folder of the whole scores")
    return Source(path.parent / relative, *(Rows(int(entry[axis][0]), int(entry[axis][1])) for axis in ("targets", "train")))


def _chosen(path: Path, fingerprint: Json, rows: int) -> ChosenTargets | None:
    try:
        chosen = ChosenTargets.of(fingerprint)
    except ValueError as error:
        raise foreign(path, f"a fingerprint with {error}", "the chosen targets of scores") from error
    if chosen is not None and chosen.count != rows:
        raise foreign(path, f"{counted(rows, 'row')} of scores", f"{chosen.count}, those of {chosen}")
    return chosen


def read_fingerprint(path: Path) -> Json:
    """The fingerprint of any file of scores, with values of its own or virtual.

    Raises:
        MissingError, DamagedError, ForeignError, MachineError.
    """
    if read_header(path).kind == VIRTUAL:  # either reader checks the digest
        return open_scores(path).fingerprint
    return read_image(path, only=()).fingerprint
