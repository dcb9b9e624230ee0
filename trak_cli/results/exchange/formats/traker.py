"""The save directory of MadryLab/trak (traker 0.3): metadata.json, experiments.json and scores/EXPERIMENT.mmap.

The scores are (training rows, targets), float32 or float16, in the file format of NumPy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.results.exchange.contract import ScoreTable, Source, matrix_table, unreadable
from trak_cli.types import Json
from trak_cli.user_files import parse_json, read_bytes


def read(source: Source) -> ScoreTable:
    """The scores of one experiment.

    Raises:
        ConfigError: the folder has several experiments, or not the named one.
        InputError: a file is missing or damaged, or the scores are not finished.
    """
    experiments = _document(source.path / "experiments.json")
    name = _chosen(source, experiments)
    described = experiments[name]
    if not isinstance(described, dict) or described.get("scores_finalized") != 1:
        remedy = f"call TRAKer.finalize_scores(exp_name={name!r}) first"
        raise InputError(Problem(str(source.path / "experiments.json"), f"{name} is not finalized", "finished scores", remedy))
    if Path(name).name != name:
        raise unreadable(source.path / "experiments.json", f"the experiment {name!r}", "the name of a file in scores/")
    path = source.path / "scores" / f"{name}.mmap"  # the listed path may be of another machine
    try:
        scores = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, f"unreadable scores ({error})", "the scores that traker wrote") from error
    expected = (_document(source.path / "metadata.json").get("train set size"), described.get("num_targets"))
    if scores.shape != expected:
        raise unreadable(path, f"scores of shape {scores.shape}", f"(training rows, targets) = {expected}")
    return matrix_table(path, scores.T)


def _chosen(source: Source, experiments: Json) -> str:
    known = ", ".join(experiments) or "none"
    if source.experiment is None and len(experiments) == 1:
        return next(iter(experiments))
    if source.experiment in experiments:
        return str(source.experiment)
    found = "nothing" if source.experiment is None else source.experiment
    remedy = f"choose one of them, for example --experiment {next(iter(experiments), 'NAME')}"
    raise ConfigError(Problem("--experiment", found, f"one of the experiments in {source.path}: {known}", remedy))


def _document(path: Path) -> Json:
    try:
        document = parse_json(read_bytes(path))
    except (OSError, ValueError) as error:
        raise unreadable(path, f"no JSON ({error})", "a save directory of traker") from error
    if not isinstance(document, dict):
        raise unreadable(path, f"a {type(document).__name__}", "a JSON object")
    return document
