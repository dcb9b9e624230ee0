"""The paths of a store; no other module builds one.

    ROOT/
      config.yaml  plan.json
      splits/SPLIT.json
      features/CHECKPOINT/fingerprint.json  context.h5  scales.h5
      features/CHECKPOINT/SPLIT/GROUP/SHARD.h5
      finalized/GRAM/CHECKPOINT.h5
      finalized/GRAM/CHECKPOINT.parts/weighting.h5  GROUP/PART.h5  until the Gram matrix is complete
      compressed/CHECKPOINT/basis.h5  GROUP/PART.h5
      compressed/ESTIMATOR.recall.h5
      scores/ESTIMATOR/SPLIT/BLOCK/GROUP/SHARD.h5  SPLIT.h5  SPLIT.topk.h5  SPLIT.notes.json
      refined/ESTIMATOR/SPLIT/CHECKPOINT/BLOCK.h5  until the scores are complete
      unrolled/ESTIMATOR/SPLIT/NAME
      lds/retrained/SUBSET.h5  SPLIT.json  SPLIT.png  tuned/SPLIT.json
      lds/imported/NAME.npz
      lds/run_RUN/SUBSET.h5  full.h5  without/ESTIMATOR/SPLIT/TARGET.h5  flips/ESTIMATOR/SPLIT/TARGET/COUNT.h5
      checkpoints/
      logs/STAGE/JOB.sbatch  JOB_TASK_0_log.out

SHARD, PART and SUBSET are numbers of five digits, BLOCK of four, GROUP of three (more digits when there are more). A GROUP
holds at most 1,000 shards: shard i is in GROUP i // 1000.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trak_cli.errors import ConfigError, Problem
from trak_cli.store.failures import reading
from trak_cli.store.safety.links import link_in_store, no_links

#: Largest number of shards in one folder.
GROUP_SHARDS = 1000

_TAKEN = (".h5", ".topk", ".json", ".png", ".tmp")
_MAX_NAME = 120


@dataclass(frozen=True)
class Layout:
    """The paths of the store in the folder ``root``. No method creates anything."""

    root: Path

    def _inside(self, *names: str) -> Path:
        """A path in the store none of whose folders is a link: in a store from somebody else, it may lead anywhere.

        Raises:
            ForeignError: one is.
        """
        return no_links(self.root, *names)

    @property
    def config(self) -> Path:
        return self._inside("config.yaml")

    @property
    def plan(self) -> Path:
        return self._inside("plan.json")

    def logs(self, stage: str) -> Path:
        """The folder of the logs that the tasks of a stage write under `trak submit`, and of their batch scripts."""
        return self._inside("logs", stage)

    def submitted(self, stage: str) -> list[int]:
        """Numbers of the jobs that were submitted for a stage."""
        return _numbers(_stems(self.logs(stage), ".sbatch"))

    @property
    def trained(self) -> Path:
        """The folder of the checkpoints that ``trak train`` writes."""
        return self._inside("checkpoints")

    def split(self, split: str) -> Path:
        return self._inside("splits", f"{check_name(split, 'split')}.json")

    def fingerprint(self, checkpoint: str) -> Path:
        """The expected fingerprint of a checkpoint's features; written before the first shard."""
        return self._inside("features", check_name(checkpoint, "checkpoint")) / "fingerprint.json"

    def context(self, checkpoint: str) -> Path:
        """The task's context under a checkpoint: what it derives from some training samples (``Task.context``)."""
        return self.fingerprint(checkpoint).with_name("context.h5")

    def scales(self, checkpoint: str) -> Path:
        """The factors of the gradients under a checkpoint (:mod:`trak_cli.gradients.transforms.adam`)."""
        return self.fingerprint(checkpoint).with_name("scales.h5")

    def features_folder(self, checkpoint: str, split: str) -> Path:
        return self._inside("features", check_name(checkpoint, "checkpoint"), check_name(split, "split"))

    def features(self, checkpoint: str, split: str, shard: int) -> Path:
        """One shard of features."""
        return _shard(self.features_folder(checkpoint, split), shard)

    def feature_shards(self, checkpoint: str, split: str, count: int) -> list[Path]:
        """The first shards of features, in order; faster than one after another."""
        folder = self.features_folder(checkpoint, split)
        groups = [folder / f"{group:03}" for group in range(-(-count // GROUP_SHARDS))]
        return [groups[shard // GROUP_SHARDS] / f"{shard:05}.h5" for shard in range(count)]

    def finalized_folder(self, gram: str) -> Path:
        return self._inside("finalized", check_name(gram, "gram"))

    def finalized(self, gram: str, checkpoint: str) -> Path:
        return self.finalized_folder(gram) / f"{check_name(checkpoint, 'checkpoint')}.h5"

    def gram_parts_folder(self, gram: str, checkpoint: str) -> Path:
        """The folder of the partial Gram matrices of a checkpoint."""
        return self._inside("finalized", check_name(gram, "gram"), f"{check_name(checkpoint, 'checkpoint')}.parts")

    def gram_part(self, gram: str, checkpoint: str, part: int) -> Path:
        """The Gram matrix of a range of training rows."""
        return _shard(self.gram_parts_folder(gram, checkpoint), part)

    def compressed_folder(self, checkpoint: str) -> Path:
        """The folder of the compressed training features under a checkpoint."""
        return self._inside("compressed", check_name(checkpoint, "checkpoint"))

    def compressed_basis(self, checkpoint: str) -> Path:
        return self.compressed_folder(checkpoint) / "basis.h5"

    def compressed_part(self, checkpoint: str, part: int) -> Path:
        """Some training rows, compressed."""
        return _shard(self.compressed_folder(checkpoint), part)

    def compressed_recall(self, estimator: str) -> Path:
        """How many of the highest and lowest scores candidates contain."""
        return self._inside("compressed") / f"{check_name(estimator, 'estimator')}.recall.h5"

    def scores_folder(self, estimator: str, split: str) -> Path:
        return self._inside("scores", check_name(estimator, "estimator"), check_name(split, "split"))

    def scores_shard(self, estimator: str, split: str, block: int, shard: int) -> Path:
        """Scores of the targets of one block for the training rows of one shard."""
        return _shard(self._block_folder(estimator, split, block), shard)

    def _block_folder(self, estimator: str, split: str, block: int) -> Path:
        return self.scores_folder(estimator, split) / f"{block:04}"

    def scores(self, estimator: str, split: str) -> Path:
        """Dense scores (targets, n): one virtual dataset over the shards."""
        folder = self.scores_folder(estimator, split)
        return folder.with_name(f"{folder.name}.h5")

    def scores_top(self, estimator: str, split: str) -> Path:
        """Top-k scores: the highest and lowest k of each target."""
        folder = self.scores_folder(estimator, split)
        return folder.with_name(f"{folder.name}.topk.h5")

    def scores_notes(self, estimator: str, split: str) -> Path:
        """What the command that wrote the scores reported about them, with its warnings."""
        folder = self.scores_folder(estimator, split)
        return folder.with_name(f"{folder.name}.notes.json")

    def refined_folder(self, name: str, split: str) -> Path:
        """The folder of what ``trak refine`` has computed before its scores are complete."""
        return self._inside("refined", check_name(name, "estimator"), check_name(split, "split"))

    def refined(self, name: str, split: str, checkpoint: str, block: int) -> Path:
        """The solved systems of one block of targets under one checkpoint, multiplied by the training rows."""
        return no_links(self.refined_folder(name, split), check_name(checkpoint, "checkpoint")) / f"{block:04}.h5"

    def unrolled(self, estimator: str, split: str, name: str) -> Path:
        """One of the files of ``trak unroll`` that are no scores."""
        return self._inside("unrolled", check_name(estimator, "estimator"), check_name(split, "split"), name)

    def retrained_folder(self, run: int | None = None) -> Path:
        """The folder of retrained models: of models with other seeds, or of one run retrained with its own."""
        return self._inside("lds", ("retrained" if run is None else f"run_{run}"))

    def retrained(self, subset: int, run: int | None = None) -> Path:
        """One random subset and the outputs of the models retrained on it."""
        return self.retrained_folder(run) / f"{subset:05}.h5"

    def retrained_full(self, run: int) -> Path:
        """The outputs of a run that is retrained with all weights 1."""
        return self.retrained_folder(run) / "full.h5"

    def retrained_without(self, run: int, estimator: str, split: str, targets: str) -> Path:
        """The outputs of a run that is retrained without the highest scores of one target, or of a group of targets."""
        folder = self.retrained_folder(run) / "without" / check_name(estimator, "estimator") / check_name(split, "split")
        return folder / f"{targets}.h5"

    def retrained_flip(self, run: int, estimator: str, split: str, target: int, count: int) -> Path:
        """The same without the ``count`` highest scores of one target, by the search of the smallest number that flips it."""
        folder = self.retrained_folder(run) / "flips" / check_name(estimator, "estimator") / check_name(split, "split")
        return folder / f"{target:05}" / f"{count:06}.h5"

    def lds_report(self, split: str) -> Path:
        return self._inside("lds", f"{check_name(split, 'split')}.json")

    def lds_plot(self, split: str) -> Path:
        return self._inside("lds", f"{check_name(split, 'split')}.png")

    def imported_truth(self, name: str) -> Path:
        """A ground truth of another program, as a file for ``lds.ground_truth``."""
        return self._inside("lds", "imported", f"{check_name(name, 'ground truth')}.npz")

    def tune_report(self, split: str) -> Path:
        """The result of the last search over estimators."""
        return self._inside("lds", "tuned", f"{check_name(split, 'split')}.json")

    def described_splits(self) -> list[str]:
        """Splits whose description is stored."""
        return _stems(self._inside("splits"), ".json")

    def checkpoints(self) -> list[str]:
        """Checkpoints that have a features folder."""
        return _folders(self._inside("features"))

    def splits(self, checkpoint: str) -> list[str]:
        """Splits that have a features folder under ``checkpoint``."""
        return _folders(self._inside("features", check_name(checkpoint, "checkpoint")))

    def shards(self, checkpoint: str, split: str) -> list[int]:
        """Numbers of the stored feature shards, in order."""
        return sorted(self.feature_sizes(checkpoint, split))

    def feature_sizes(self, checkpoint: str, split: str) -> dict[int, int]:
        """Shard number -> bytes of the stored feature shards."""
        return _shard_sizes(self.features_folder(checkpoint, split))

    def grams(self) -> list[str]:
        return _folders(self._inside("finalized"))

    def finalized_checkpoints(self, gram: str) -> list[str]:
        return _stems(self._inside("finalized", check_name(gram, "gram")), ".h5")

    def gram_parts(self, gram: str, checkpoint: str) -> list[int]:
        """Numbers of the stored parts of a Gram matrix."""
        return sorted(_shard_sizes(self.gram_parts_folder(gram, checkpoint)))

    def compressed_checkpoints(self) -> list[str]:
        """Checkpoints with compressed features."""
        return _folders(self._inside("compressed"))

    def compressed_recalls(self) -> list[str]:
        """Estimators whose recall by compressed features was measured."""
        return [stem.removesuffix(".recall") for stem in _stems(self._inside("compressed"), ".recall.h5")]

    def compressed_parts(self, checkpoint: str) -> list[int]:
        """Numbers of the stored parts of compressed features."""
        return sorted(_shard_sizes(self.compressed_folder(checkpoint)))

    def compressed_files(self, checkpoint: str) -> list[Path]:
        """The stored basis and parts of compressed features."""
        basis = self.compressed_basis(checkpoint)
        parts = [self.compressed_part(checkpoint, part) for part in self.compressed_parts(checkpoint)]
        return [*([basis] if basis.exists() else []), *parts]

    def estimators(self) -> list[str]:
        """Estimators that have a scores folder."""
        return _folders(self._inside("scores"))

    def scored_splits(self, estimator: str) -> list[str]:
        """Splits with complete scores, dense or top-k."""
        stems = _stems(self._inside("scores", check_name(estimator, "estimator")), ".h5")
        return sorted({stem.removesuffix(".topk") for stem in stems})

    def begun_scores(self, estimator: str) -> list[str]:
        """Splits with any stored scores, complete or not."""
        return sorted({*_folders(self._inside("scores", check_name(estimator, "estimator"))), *self.scored_splits(estimator)})

    def score_blocks(self, estimator: str, split: str) -> list[int]:
        """Numbers of the blocks of targets with a scores folder, in order."""
        return _numbers(_folders(self.scores_folder(estimator, split)))

    def score_shards(self, estimator: str, split: str, block: int) -> list[int]:
        """Numbers of the stored score shards of a block, in order."""
        return sorted(self.score_sizes(estimator, split, block))

    def score_sizes(self, estimator: str, split: str, block: int) -> dict[int, int]:
        """Shard number -> bytes of the stored score shards of a block."""
        return _shard_sizes(self._block_folder(estimator, split, block))

    def unrolled_files(self, split: str) -> list[Path]:
        """What ``trak unroll`` has stored about a split besides scores, under every name."""
        folders = [self.unrolled(name, split, "") for name in _folders(self._inside("unrolled"))]
        return [folder / entry.name for folder in folders for entry in _entries(folder)]

    def refined_files(self, split: str, names: Sequence[str] | None = None) -> list[Path]:
        """What ``trak refine`` has stored of incomplete scores on a split, under these names, or under all of them."""
        names = _folders(self._inside("refined")) if names is None else names
        folders = [self.refined_folder(name, split) for name in names]
        of_checkpoints = [folder / checkpoint for folder in folders for checkpoint in _folders(folder)]
        return [folder / f"{block}.h5" for folder in of_checkpoints for block in _stems(folder, ".h5")]

    def retrained_subsets(self, run: int | None = None) -> list[int]:
        return _numbers(_stems(self.retrained_folder(run), ".h5"))

    def retrained_runs(self) -> list[int]:
        """The runs that were retrained with their own seed."""
        folders = _folders(self._inside("lds"))
        return _numbers([name.removeprefix("run_") for name in folders if name.startswith("run_")])


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it can be the name of a ``what`` in a store, that is, of a file.

    Raises:
        ConfigError: it is empty, begins with a dot, holds a separator or a control character, ends like one of the
            store's own files, or is too long.
    """
    fault = _fault_of(name)
    if fault is None:
        return name
    expected = "letters, digits, dots, dashes, underscores or any other printable characters but / and \\"
    raise ConfigError(Problem(f"{what} name", f"{name!r}, which {fault}", expected, f"rename the {what}"))


def _fault_of(name: str) -> str | None:
    faults = {
        "is empty": not name,
        "begins with a dot": name.startswith("."),
        "holds a separator": "/" in name or "\\" in name,
        "holds a control character": not name.isprintable(),
        "begins or ends with a space": name != name.strip(),
        f"ends with one of {', '.join(_TAKEN)}": name.endswith(_TAKEN),
        f"is longer than {_MAX_NAME} bytes": len(name.encode(errors="surrogateescape")) > _MAX_NAME,
    }
    return next((fault for fault, applies in faults.items() if applies), None)


def _shard(folder: Path, shard: int) -> Path:
    return no_links(folder.parent, folder.name, f"{shard // GROUP_SHARDS:03}") / f"{shard:05}.h5"


def _shard_sizes(folder: Path) -> dict[int, int]:
    """Shard number -> bytes, of every shard below ``folder`` that lies where it belongs."""
    sizes: dict[int, int] = {}
    for group in _numbers(_folders(folder)):
        within = _shard(folder, group * GROUP_SHARDS).parent
        for entry in _entries(within):
            stem = entry.name.removesuffix(".h5")
            if stem != entry.name and stem.isascii() and stem.isdigit() and int(stem) // GROUP_SHARDS == group:
                try:
                    sizes[int(stem)] = entry.stat().st_size
                except FileNotFoundError:  # removed meanwhile
                    continue
    return sizes


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def _stems(folder: Path, suffix: str) -> list[str]:
    return sorted(entry.name.removesuffix(suffix) for entry in _entries(folder) if entry.name.endswith(suffix))


def _numbers(names: list[str]) -> list[int]:
    return sorted(int(name) for name in names if re.fullmatch("[0-9]+", name))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of ``folder`` that are not hidden (temporary files are); none where there is no such folder."""
    with reading(folder):
        if not folder.is_dir():
            return []
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
        if link := next((entry for entry in found if entry.is_symlink()), None):
            raise link_in_store(Path(link.path))
        return found
