"""The readers of a store's own files: damaged as they are, and with values that lie under a correct digest."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Reader
from mutations import lying, mutated
from readers import damage_bytes

from trak_cli.config.load import Loaded, load
from trak_cli.errors import InputError
from trak_cli.results.top import top
from trak_cli.stages.compressing.candidates import CompressedScorer, find_candidates
from trak_cli.stages.compressing.compressed_store import open_compressed
from trak_cli.stages.compressing.exact_rows import ExactRows
from trak_cli.stages.compressing.recall import find_recall
from trak_cli.stages.index.inventory import require_shards, take_inventory
from trak_cli.stages.index.run_plan import read_plan
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.score import score
from trak_cli.stages.scoring.block_scorer import prepare_targets
from trak_cli.stages.scoring.gram_store import find_gram
from trak_cli.stages.scoring.score_reader import read_extremes, read_kept
from trak_cli.stages.status import status
from trak_cli.store.container import read_image
from trak_cli.store.header import HEADER_BYTES, read_header, seal
from trak_cli.store.json_files import read_json, replace_json
from trak_cli.store.layout import Layout
from trak_cli.store.shards import inspect_features, read_features
from trak_cli.store.virtual import read_scores
from trak_cli.types import Silent

GOLDEN = Path(__file__).parents[1] / "reference" / "golden_store" / "float32"

#: One file of each kind in the golden store.
FILES = {
    "shard": "features/a/train/000/00001.h5",
    "Gram matrix": "finalized/unweighted/a.h5",
    "part of scores": "scores/trak/test/0000/000/00000.h5",
    "complete scores": "scores/trak/test.h5",
    "top-k scores": "scores/dot/test.topk.h5",
    "basis": "compressed/a/basis.h5",
    "compressed part": "compressed/a/000/00001.h5",
    "recall": "compressed/trak.recall.h5",
    "run plan": "plan.json",
    "split": "splits/train.json",
    "fingerprint": "features/a/fingerprint.json",
}


def store_readers() -> list[Reader]:
    """Readers of files with a digest."""
    return [*_sealed(), *_lying()]


def copy_store(path: Path) -> None:
    """The golden store."""
    shutil.copytree(GOLDEN, path)


def _sealed() -> list[Reader]:
    """Every kind of file is damaged; what is accepted must have the same values."""
    readers: dict[str, Callable[[Path], Any]] = {
        "shard": lambda path: [*vars(read_features(path)).values(), inspect_features(path, None, None)],
        "Gram matrix": lambda path: _plain(read_image(path)),
        "part of scores": lambda path: _plain(read_image(path)),
        "compressed part": lambda path: _plain(read_image(path)),
        "run plan": read_json,
        "split": read_json,
        "fingerprint": read_json,
    }
    single = [
        Reader(name, Path(FILES[name]).name, _copier(FILES[name]), read, damage_bytes, sealed=True)
        for name, read in readers.items()
    ]
    within = [
        Reader(f"store with a damaged {name}", "store", copy_store, _everything, _damager(FILES[name]), sealed=True, share=0.05)
        for name in FILES
    ]
    return [*single, *within]


def _lying() -> list[Reader]:
    """Values are changed and the digest corrected, as by somebody who means harm: any value or refusal, but no harm."""
    documents = [name for name in FILES if FILES[name].endswith(".json")]
    return [Reader(f"lying {name}", "store", copy_store, _commands, _liar(FILES[name]), share=0.05) for name in documents]


def forged_readers() -> list[Reader]:
    """Readers of HDF5 files whose bytes were changed under a digest that was computed again: HDF5 parses them."""
    images = [name for name in FILES if not FILES[name].endswith(".json")]
    return [Reader(f"forged {name}", "store", copy_store, _commands, _forger(FILES[name])) for name in images]


def _everything(root: Path) -> Any:
    """All values of the golden store."""
    layout = Layout(root)
    inventory = take_inventory(layout, ["*"])
    require_shards(inventory, ["train", "test"])
    shards = [vars(shard) for name in inventory.checkpoints for shard in inventory.read_all(name, "train")]
    estimator = _loaded("score", root).config.estimator.spec
    grams = [find_gram(inventory, estimator, name) for name in inventory.checkpoints]
    values = [read_scores(layout.scores("trak", "test")), read_kept(layout, "dot", "test")]
    return shards, grams, values, _candidates(root), read_plan(layout), rows_of(layout, "train"), rows_of(layout, "test")


def _commands(root: Path) -> Any:
    """The stages and commands that read a store from somebody else."""
    status(_loaded("status", root), Silent())
    status(_loaded("status", root), Silent(), verify=True)
    score(_loaded("score", root, name="again"), Silent())
    shutil.rmtree(root / "scores" / "again")
    top(_loaded("top", root), Silent(), split=None, targets=[0], k=2)
    read_extremes(Layout(root), "dot", "test", [0], 2)
    _candidates(root)


def _candidates(root: Path) -> Any:
    """What `trak ask --candidates` reads, for targets of the store."""
    inventory, estimator = take_inventory(Layout(root), ["*"]), _loaded("score", root).config.estimator.spec
    store = open_compressed(inventory)
    targets = prepare_targets(inventory, estimator, lambda name: inventory.read(name, "test", 0).features)
    rows = find_candidates(CompressedScorer.of(targets, store), 2, 1, Silent())
    blocks, recall = list(ExactRows(targets, store, 1).final_scores(rows)), find_recall(store, estimator)
    if recall is None:
        raise InputError("a damaged measurement counts as none, and `trak ask` says so")
    return rows, blocks, recall.ranks


_known: dict[str, Loaded] = {}


def _loaded(stage: str, root: Path, **estimator: Any) -> Loaded:
    """The configuration of a stage; composing it takes longer than all else."""
    if stage not in _known:
        _known[stage] = load(stage, None, None, ["store=x", "estimator=trak"])
    config = dataclasses.replace(_known[stage].config, store=str(root))
    config.estimator = dataclasses.replace(config.estimator, **estimator)
    return dataclasses.replace(_known[stage], config=config)


def _copier(file: str) -> Callable[[Path], Any]:
    return lambda path: shutil.copyfile(GOLDEN / file, path)


def _damager(file: str) -> Callable[[Path, random.Random], None]:
    return lambda root, rng: damage_bytes(root / file, rng)


def _liar(file: str) -> Callable[[Path, random.Random], None]:
    def damage(root: Path, rng: random.Random) -> None:
        document = lying(read_json(root / file), rng)
        document.pop("sha256", None) if isinstance(document, dict) else None
        replace_json(root / file, document if isinstance(document, dict) else {"rows": document})

    return damage


def _forger(file: str) -> Callable[[Path, random.Random], None]:
    def damage(root: Path, rng: random.Random) -> None:
        header, data = read_header(root / file), (root / file).read_bytes()
        payload = mutated(data[HEADER_BYTES:], rng)
        (root / file).write_bytes(seal(memoryview(payload), header.content, header.kind))

    return damage


def _plain(image: Any) -> Any:
    return {**vars(image), "path": None, "arrays": dict(image.arrays)}
