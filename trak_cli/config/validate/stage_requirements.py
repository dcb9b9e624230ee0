"""The keys that each stage requires, and the plugins that it builds.

The requirement of ``store`` is met by ``name`` too, because its default is ``runs/${name}``.
"""

from __future__ import annotations

from dataclasses import dataclass

from trak_cli.config.wording import covers


@dataclass(frozen=True)
class Needs:
    """What one stage requires and builds.

    Attributes:
        required: keys that must have a value.
        plugins: keys whose plugins the stage builds. Other plugins are not imported, so that `trak score` runs on a
            machine that has neither the code of the model nor the data.
        imports: whether these plugins are imported and their arguments checked. `trak config` only prints them, and does
            not import PyTorch for that.
        data_files: whether the files of shipped data sets must exist.
    """

    required: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    imports: bool = True
    data_files: bool = False

    def reads(self, key: str) -> bool:
        """Whether the stage reads this key."""
        if covers("checkpoints", key):
            return "checkpoints" in self.required
        if covers("vars", key):
            return False
        if any(covers(plugin, key) for plugin in PLUGINS):
            return any(covers(plugin, key) for plugin in self.plugins)
        return True

    def requires(self, key: str) -> bool:
        """Whether a key that was written must have a value. `trak config` prints plugins whose arguments lack one."""
        return self.reads(key) and (self.imports or not any(covers(plugin, key) for plugin in PLUGINS))


#: The mapping of target splits to plugins.
TARGETS = "dataset.targets"

#: Every key of a plugin, or of a mapping of plugins.
PLUGINS = ("model", "task", "trainer", "dataset.train", TARGETS, "dataset.collate")

_DATA = ("model", "task", "dataset.train", TARGETS, "dataset.collate")

STAGES: dict[str, Needs] = {
    "featurize": Needs(("store", "model", "task", "dataset.train", "checkpoints"), _DATA),
    "doctor": Needs(("store", "model", "task", "dataset.train", "checkpoints"), _DATA),
    "run": Needs(("store", "model", "task", "dataset.train", "checkpoints", "estimator.name"), _DATA),
    "finalize": Needs(("store", "estimator.name")),
    "score": Needs(("store", "estimator.name")),
    "compress": Needs(("store", "estimator.name")),
    "refine": Needs(("store", "model", "task", "dataset.train", "checkpoints", "estimator.name"), _DATA),
    "ask": Needs(("store", "model", "task", "dataset.train", "checkpoints", "estimator.name"), _DATA),
    "eval-lds": Needs(("store", "estimator.name")),
    "tune": Needs(("store", "estimator.name")),
    "train": Needs(("store", "model", "task", "dataset.train", "trainer"), (*_DATA, "trainer")),
    "retrain": Needs(("store", "model", "task", "dataset.train", "dataset.targets", "trainer"), (*_DATA, "trainer")),
    "unroll": Needs(("store", "model", "task", "dataset.train", "dataset.targets", "trainer"), (*_DATA, "trainer")),
    # The datasets describe the rows that it shows.
    "top": Needs(("store", "estimator.name"), ("dataset.train", TARGETS)),
    "suspects": Needs(("store", "estimator.name"), ("dataset.train",)),
    "select": Needs(("store", "estimator.name"), ("dataset.train",)),
    "report": Needs(("store", "estimator.name"), ("dataset.train", TARGETS)),
    "status": Needs(("store",)),
    "export": Needs(("store", "estimator.name")),
    "import": Needs(("store",)),
    # The labels of samples tell their classes.
    "evaluate": Needs(("store", "estimator.name"), ("dataset.train", TARGETS)),
    "config": Needs((), PLUGINS, imports=False),
}

#: Required keys to which ``configs/trak.yaml`` gives a value.
CHOSEN_BY_DEFAULT = ("task", "trainer", "estimator.name")

#: Required key -> (what is expected, what to do).
REMEDIES: dict[str, tuple[str, str]] = {
    "model": ("a model plugin", "select one (model=digits_cnn) or give model._target_ in your YAML"),
    "task": ("a task plugin", "select one (task=classification) or give task._target_ in your YAML"),
    "trainer": ("a trainer plugin", "select one (trainer=sgd) or give trainer._target_ in your YAML"),
    "dataset.train": ("a dataset plugin", "select one (dataset=digits) or give dataset.train._target_ in your YAML"),
    "dataset.targets": ("at least one target split", "give dataset.targets.test._target_ in your YAML"),
    "checkpoints": (
        "the checkpoint files or folders: a glob pattern, or a list of them",
        "give checkpoints=FOLDER/*.safetensors, or checkpoints=[A.pt,B.pt]",
    ),
    "estimator.name": (
        "an estimator",
        "select one: estimator=early_training, estimator=trak, estimator=dot or estimator=cosine",
    ),
}

_IN_STORE = "the content of the store"
_BY_DOCTOR = (
    "the samples, the content of the checkpoints, and whether they fit the model and the task; trak doctor checks these"
)
_IN_TRAINING = "the samples, and whether model, task and trainer accept them"

#: Stage -> what `trak config --check` does not check.
UNCHECKED: dict[str, str] = {
    "featurize": _BY_DOCTOR,
    "doctor": _BY_DOCTOR,
    "run": _BY_DOCTOR,
    "finalize": _IN_STORE,
    "score": _IN_STORE,
    "compress": _IN_STORE,
    "refine": f"{_BY_DOCTOR}; and {_IN_STORE}",
    "ask": f"{_BY_DOCTOR}; and {_IN_STORE}",
    "eval-lds": f"{_IN_STORE}, and the content of a file of scores or of ground truth",
    "tune": f"{_IN_STORE}, and the content of a file of ground truth",
    "train": _IN_TRAINING,
    "retrain": _IN_TRAINING,
    "unroll": f"{_IN_TRAINING}, and the content of the store",
    "top": f"{_IN_STORE}, and the samples",
    "suspects": f"{_IN_STORE}, and the samples",
    "select": f"{_IN_STORE}, and the samples",
    "status": _IN_STORE,
    "export": _IN_STORE,
    "import": f"{_IN_STORE}, and the file that is imported",
    "evaluate": f"{_IN_STORE}, the samples, and the files of the options",
    "config": "plugins, and what only one stage needs",
}
