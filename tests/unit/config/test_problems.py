"""Bad configurations: every problem is found, at its key, and all are reported together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from config_project import Project

from trak_cli.config.load import load
from trak_cli.config.validate.stage_requirements import STAGES
from trak_cli.errors import ConfigError, Problem

Problems = Callable[..., dict[str, Problem]]


def test_problems_of_every_kind_are_reported_in_one_go(project: Project) -> None:
    project.write(
        "mine.yaml",
        """
        defaults: [trak, _self_]
        name: mine
        checkpoints: [none/*.pt, "*.pt", 5]
        modle: {_target_: plug.Net}
        features: {dtypo: float16, shard_rows: many}
        model: {_target_: plug.Nett}
        task: {_target_: no_such_module.Task}
        dataset:
          train: {_target_: plug.Data, row: 3}
          targets: {test: {_target_: plug.NUMBER}}
          collate: {_target_: plug.Padding}
        score: {splits: test}
        """,
    )
    found = project.problems(
        "projection.dim=(",
        "gradients=lop",
        "hydra.run.dir=x",
        "--multirun",
        "threads=1,2",
        "worker.index=2",
        "device=gpu",
        "~nothing",
        "seed=${nope}",
    )
    assert set(found) == {
        "projection.dim",
        "gradients",
        "hydra.run.dir",
        "--multirun",
        "threads",
        "worker.count",
        "device",
        "nothing",
        "seed",
        "checkpoints",
        "checkpoints[2]",
        "modle",
        "features.dtypo",
        "features.shard_rows",
        "score.splits",
        "model._target_",
        "task._target_",
        "dataset.train.row",
        "dataset.targets.test._target_",
        "dataset.collate.value",
    }
    assert found["modle"].remedy == "did you mean model?"
    assert found["features.dtypo"].remedy == "did you mean features.dtype?"
    assert found["score.splits"].remedy == "write 'score.splits=[test]'"
    assert found["gradients"].expected == "one of: auto, hooks, loop, representation, vmap"


@pytest.mark.parametrize(
    ("override", "where", "found", "says"),
    [
        ("projection", "projection", "no '='", "projection=VALUE"),
        ("projection.dim=(", "projection.dim", "'projection.dim=('", "quote the value"),
        ("a b=3", "a b", "'a b=3'", "quote the value"),
        ("-m", "-m", "a sweep", "once per value"),
        ("--multirun", "--multirun", "a sweep", "once per value"),
        ("--cfg", "--cfg", "an option", "--help"),
        ("threads=1,2", "threads", "a sweep over 1,2", "once per value"),
        ("threads=range(1,3)", "threads", "a sweep", "once per value"),
        ("gradients=vmap,loop", "gradients", "a sweep", "once per value"),
        ("hydra.run.dir=x", "hydra.run.dir", "hydra.run.dir=x", "store="),
        ("+hydra/launcher=slurm", "hydra/launcher", "launcher", "leave"),
        ("gradients=lop", "gradients", "no option 'lop'", "gradients=loop"),
        ("+gradients=lop", "gradients", "no option 'lop'", "gradients=loop"),
        ("estimator=[trak,dott]", "estimator", "no option 'dott'", "estimator=dot"),
        ("nogroup@here=x", "nogroup", "nogroup@here=x", "group"),
        ("~featurs", "featurs", "no such key", "~features"),
        ("score.splits.x=3", "score.splits", "a mapping", "a list of texts"),
        ("parameters.include.x=3", "parameters.include.x", "3", "check the key"),
        ("gradients.memory_mb.x=3", "gradients.memory_mb", "(a mapping)", "a whole number"),
    ],
)
def test_an_override_that_cannot_be_used(shipped: Problems, override: str, where: str, found: str, says: str) -> None:
    problems = shipped("top", "name=run", override)
    assert list(problems) == [where]
    assert found in problems[where].found
    assert says in problems[where].remedy


def test_a_key_set_by_a_refused_override_is_not_reported_as_missing(shipped: Problems) -> None:
    assert set(shipped("top", "name=a,b")) == {"name"}
    assert set(shipped("top", "store=(")) == {"store"}
    assert set(shipped("featurize", "name=run", "model=nope")) == {"model", "dataset.train", "checkpoints"}
    assert set(shipped("featurize", "name=run", "dataset.train=(")) == {"dataset.train", "model", "checkpoints"}
    assert set(shipped("featurize", "experiment=nope")) == {"experiment"}


WRONG_TYPES = [
    ("projection.dim=big", "'big' (text)", "a whole number"),
    ("projection.dim=1.5", "1.5 (a number)", "a whole number"),
    ("projection.dim=null", "null", "a whole number"),
    ("projection.dim=true", "true", "a whole number"),
    ("retrain.fraction=half", "'half' (text)", "a number"),
    ("score.overwrite=maybe", "'maybe' (text)", "true or false"),
    ("features.dtype=true", "true (true or false)", "text"),
    ("features.dtype=[a]", "a list", "text"),
    ("parameters.include=conv*", "'conv*' (text)", "a list of texts"),
    ("parameters.include=[{a: 1}]", "a list", "a list of texts"),
    ("train=null", "null", "a mapping with the keys count, folder"),
    ("dataset.targets=[1]", "a list", "a mapping of names to plugins"),
    ("lds.scores=x", "'x' (text)", "a mapping of names to texts"),
    ("threads=many", "'many' (text)", "a whole number, or null"),
    ("worker.index=x", "'x' (text)", "a whole number, or null"),
]


def test_values_of_the_wrong_type(shipped: Problems) -> None:
    left = list(WRONG_TYPES)
    while left:  # as many together as have different keys
        batch = {override.split("=")[0]: (override, found, expected) for override, found, expected in left}
        problems = shipped("top", "name=run", *(override for override, _, _ in batch.values()))
        assert set(problems) == set(batch)
        for key, (_, found, expected) in batch.items():
            assert found in problems[key].found
            assert problems[key].expected.startswith(expected)
        left = [row for row in left if row not in batch.values()]


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "device=gpu",
            "threads=0",
            "gradients.engine=loops",
            "gradients.memory_mb=0",
            "gradients.microbatch=0",
            "parameters.include=[]",
            "projection.kind=fourier",
            "projection.kernel=fast",
            "projection.dim=0",
            "projection.seed=-1",
            "features.dtype=float8",
            "features.shard_rows=0",
            "estimator.ridge=-1",
            "estimator.metric=cosine",
            "estimator.name=a/b",
            "estimator.weight_exponent=.inf",
            "estimator.gram_exponent=-1",
            "estimator.average_over=[]",
            "score.top_k=0",
            "score.target_block=0",
            "lds.bootstrap=-1",
            "train.count=0",
            "retrain.subsets=0",
            "retrain.models_per_subset=0",
            "retrain.fraction=0",
            "store=",
        ],
        ["device=cuda:x", "estimator.ridge=2x", "retrain.fraction=1"],
        ["estimator.ridge=nan", "retrain.fraction=nan"],
    ],
)
def test_values_of_the_right_type_that_make_no_sense(shipped: Problems, overrides: list[str]) -> None:
    assert set(shipped("top", "name=run", *overrides)) == {override.split("=")[0] for override in overrides}


def test_factors_are_looked_at_where_they_are_read(shipped: Problems) -> None:
    found = shipped("top", "name=run", "projection=factored", "projection.factors=[16]", "projection.nonzeros=0")
    assert set(found) == {"projection.factors", "projection.nonzeros"}
    (problem,) = shipped("top", "name=run", "projection=factored", "projection.factors=[16, many]").values()
    assert "a list of whole numbers, or null" in problem.expected


@pytest.mark.parametrize(
    "overrides",
    [
        ["device=cuda:1"],
        ["threads=2"],
        ["score.top_k=1"],
        ["lds.bootstrap=0"],
        ["retrain.fraction=0.99"],
        ["worker.index=0", "worker.count=1"],
        ["projection=sjlt", "projection.dim=64", "projection.nonzeros=4"],
        ["projection=none", "projection.dim=0"],
        ["projection=factored", "projection.factors=[1, 300]"],
        ["projection=sjlt", "projection.factors=[0]"],
    ],
)
def test_values_at_the_edge_are_accepted(overrides: list[str]) -> None:
    load("top", None, None, ["name=run", *overrides])


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        (["worker.index=0"], "worker.count"),
        (["worker.count=2"], "worker.index"),
        (["worker.index=2", "worker.count=2"], "worker.index"),
        (["worker.index=-1", "worker.count=2"], "worker.index"),
        (["worker.index=0", "worker.count=0"], "worker.count"),
    ],
)
def test_a_worker_has_a_number_below_their_count(shipped: Problems, overrides: list[str], where: str) -> None:
    assert list(shipped("top", "name=run", *overrides)) == [where]


def test_a_target_split_may_not_be_called_train(project: Project) -> None:
    assert set(project.problems("+dataset.targets.train._target_=plug.Data")) == {"dataset.targets.train"}


@pytest.mark.parametrize("name", ["a/b", ".hidden", "x.h5"])
def test_a_target_split_has_the_name_of_a_file(project: Project, name: str) -> None:
    project.write("odd.yaml", f"defaults: [mine, _self_]\ndataset: {{targets: {{{name}: {{_target_: plug.Data}}}}}}\n")
    project.name = "odd"
    assert set(project.problems()) == {f"dataset.targets.{name}"}


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        (["estimator=trak", "lds.scores={trak: t.npy}"], "lds.scores.trak"),
        (["estimator=trak", "lds.estimators=[other]", "lds.scores={other: t.npy}"], "lds.scores.other"),
        (["estimator=trak", "lds.scores={datamodel: t.npy}", "lds.baselines=[datamodel]"], "lds.baselines"),
        (["estimator=trak", "estimator.name=datamodel", "lds.baselines=[datamodel]"], "lds.baselines"),
    ],
)
def test_scores_that_are_compared_have_names_of_their_own(shipped: Problems, overrides: list[str], where: str) -> None:
    assert list(shipped("eval-lds", "name=run", *overrides)) == [where]


def test_an_estimator_may_be_named_twice() -> None:
    load("eval-lds", None, None, ["name=run", "estimator=trak", "lds.estimators=[trak]", "lds.scores={theirs: t.npy}"])


def test_unknown_keys_name_what_was_probably_meant(shipped: Problems) -> None:
    problems = shipped("top", "name=run", "modle=x", "dtype=float16", "features.shards=3", "zzz=1", "trian.count=2")
    remedies = {key: problem.remedy for key, problem in problems.items()}
    assert remedies == {
        "modle": "did you mean model?",
        "dtype": "did you mean features.dtype?",
        "features.shards": "did you mean features.shard_rows?",
        "zzz": "remove the key",
        "trian": "did you mean train?",
    }
    assert problems["features.shards"].expected == "one of: dtype, shard_rows, readers"


REQUIRED = {
    "doctor": {"name", "model", "dataset.train", "checkpoints", "task"},
    "featurize": {"name", "model", "dataset.train", "checkpoints", "task"},
    "run": {"name", "model", "dataset.train", "checkpoints", "task", "estimator.name"},
    "ask": {"name", "model", "dataset.train", "checkpoints", "task", "estimator.name"},
    "finalize": {"name", "estimator.name"},
    "score": {"name", "estimator.name"},
    "compress": {"name", "estimator.name"},
    "refine": {"name", "model", "dataset.train", "checkpoints", "task", "estimator.name"},
    "eval-lds": {"name", "estimator.name"},
    "tune": {"name", "estimator.name"},
    "train": {"name", "model", "dataset.train", "task", "trainer"},
    "retrain": {"name", "model", "dataset.train", "dataset.targets", "task", "trainer"},
    "unroll": {"name", "model", "task", "trainer", "dataset.train", "dataset.targets"},
    "top": {"name", "estimator.name"},
    "suspects": {"name", "estimator.name"},
    "select": {"name", "estimator.name"},
    "report": {"name", "estimator.name"},
    "export": {"name", "estimator.name"},
    "import": {"name"},
    "evaluate": {"name", "estimator.name"},
    "status": {"name"},
}


@pytest.mark.parametrize("stage", sorted(REQUIRED))
def test_each_stage_requires_its_keys_and_no_others(project: Project, stage: str) -> None:
    project.write("mine.yaml", "threads: 1\n")
    assert set(project.problems(stage=stage)) == REQUIRED[stage]


def test_printing_a_configuration_requires_no_keys(project: Project) -> None:
    project.write("mine.yaml", "threads: 1\n")
    assert project.load(stage="config").config.threads == 1
    assert set(REQUIRED) | {"config"} == set(STAGES)


def test_an_unknown_stage_is_named(shipped: Problems) -> None:
    assert shipped("scoer")["stage"].remedy == "did you mean score?"


def test_stages_that_build_nothing_do_not_look_at_plugins_or_checkpoints(project: Project) -> None:
    overrides = ("model._target_=nowhere.Net", "checkpoints=none/*.pt", "dataset.train.rows=${oc.env:TRAK_UNSET}")
    for stage in ("finalize", "score", "eval-lds", "status"):
        assert project.load(*overrides, stage=stage).config.model["_target_"] == "nowhere.Net"
    assert set(project.problems(*overrides)) == {"model._target_", "checkpoints", "dataset.train.rows"}
    assert set(project.problems(*overrides, stage="train")) == {"model._target_", "dataset.train.rows"}


def test_checkpoint_patterns_must_match_files(project: Project) -> None:
    project.write("deep/er/b.pt", "weights")
    assert project.load("checkpoints=[a.pt,'**/b.pt']").config.checkpoints.files == ["a.pt", "**/b.pt"]
    problem = project.problems("checkpoints=none/*.pt")["checkpoints"]
    assert "'none/*.pt'" in problem.found
    assert str(project.folder) in problem.found
    assert set(project.problems("checkpoints=deep")) == {"checkpoints"}
    assert set(project.problems("checkpoints=[]")) == {"checkpoints"}
    assert set(project.problems("checkpoints=[3]")) == {"checkpoints[0]"}
    assert set(project.problems("checkpoints={a: b}")) == {"checkpoints.a"}


@pytest.mark.parametrize(
    ("override", "key", "remedy"),
    [
        ("dataset.train={_target_: trak_cli.plugins.ImageFolder, path: data/trian}", "path", "dataset.train.path=data/train?"),
        ("dataset.train={_target_: trak_cli.plugins.Table, path: none.csv, inputs: [a], label: b}", "path", "correct the path"),
        ("dataset.train={_target_: trak_cli.plugins.text.CausalTexts, path: t.jsonl, tokenizer: gpt2}", "path", "correct"),
        (
            "dataset.train={_target_: plug.Data, transform: {_target_: trak_cli.plugins.SampleFile, path: a.npz}}",
            "transform.path",
            "",
        ),
    ],
)
def test_files_of_shipped_data_sets_must_exist(project: Project, override: str, key: str, remedy: str) -> None:
    project.write("data/train/one.txt", "")
    problem = project.problems(override, data_files=True)[f"dataset.train.{key}"]
    assert "no file or folder in " in problem.found
    assert remedy in problem.remedy
    assert project.load(override, stage="score", data_files=True)  # which does not read it
    assert project.load(override)  # the data set says it when it is built


@pytest.mark.parametrize("path", ["glue", "data/train", "${store}"])
def test_a_data_set_of_the_hub_and_a_folder_need_no_file(project: Project, path: str) -> None:
    project.write("data/train/one.txt", "")
    kind = "ImageFolder" if path.startswith("data") else "text.CausalTexts"
    more = ", tokenizer: gpt2" if kind.startswith("text") else ""
    assert project.load(
        "+dataset.targets.other={_target_: trak_cli.plugins." + f"{kind}, path: '{path}'{more}" + "}", data_files=True
    )


def test_interpolations_without_a_value(project: Project) -> None:
    problems = project.problems(
        "projection.seed=${nope}",
        "model.width=${oc.env:TRAK_UNSET}",
        "store=${stor}",
        "parameters.include=['${x}']",
        "threads=${threads}",
        "seed=${nosuchresolver:1}",
        "+dataset.train.transform=[{a: '${y}'}]",
    )
    assert set(problems) == {
        "projection.seed",
        "model.width",
        "store",
        "parameters.include[0]",
        "threads",
        "seed",
        "dataset.train.transform[0].a",
    }
    assert "TRAK_UNSET" in problems["model.width"].found
    assert problems["store"].found.startswith("${stor}, which does not resolve")


def test_mandatory_values(project: Project) -> None:
    problems = project.problems("model.width=???", "features.shard_rows=???", "dataset.train.rows=${model.width}")
    assert set(problems) == {"model.width", "features.shard_rows"}
    assert problems["model.width"].remedy == "give model.width=VALUE"
    assert set(project.problems("name=???")) == {"name"}


def test_the_folder_and_the_name_of_a_config(project: Project, shipped: Problems, tmp_path: Path) -> None:
    assert shipped("top", config_name="trakk")["--config-name"].remedy == "did you mean --config-name trak?"
    project.name = "mien"
    assert project.problems()["--config-name"].expected == "one of: mine, trak"
    for path in (tmp_path / "nowhere", project.folder / "mine.yaml"):
        with pytest.raises(ConfigError, match="--config-dir"):
            load("top", None, path, [])


def test_a_syntax_error_names_file_and_line(project: Project) -> None:
    project.write("mine.yaml", "defaults: [trak, _self_]\nname: a\n  indented: b\n")
    problems = project.problems("features.dtypo=1", "a=(")
    broken = f"{project.folder / 'mine.yaml'}, line 3, column 11"
    assert set(problems) == {broken, "features.dtypo", "a"}


def test_every_unreadable_file_is_named(project: Project) -> None:
    project.write("model/bad.yaml", "_target_: [\n")
    project.write("task/twice.yaml", "_target_: a.B\n_target_: a.C\n")
    project.write("trainer/curly.yaml", "_target_: ${a.B\n")
    problems = project.problems("model=bad", "task=twice", "trainer=curly", "feature.dtype=3")
    assert len(problems) == 4
    assert any("bad.yaml, line 2" in where for where in problems)
    assert any("twice.yaml, line 2" in where for where in problems)
    assert any("curly.yaml" in where for where in problems)
    assert "feature" in problems


def test_a_users_file_is_checked_even_where_its_defaults_cannot_be_followed(project: Project) -> None:
    project.write("mine.yaml", "defaults: [trak, _self_, {override model: nope}]\nname: a\nfeatures: {dtype: f8}\nextra: 1\n")
    problems = project.problems("projection.dim=x")
    file = str(project.folder / "mine.yaml")
    assert set(problems) == {file, "features.dtype", "extra", "projection.dim"}
    assert "model/nope" in problems[file].found


@pytest.mark.parametrize(
    "text",
    [
        "defaults: [trak, _self_, {model: digits_cnn}]\n",
        "defaults: {trak: x}\n",
        "defaults: [trakk, _self_]\n",
        "defaults: [trak, 5]\n",
        "defaults: [{1: x}]\n",
        "- a\n- b\n",
        "defaults: [mine, _self_]\n",
    ],
)
def test_defaults_lists_that_cannot_be_followed(project: Project, text: str) -> None:
    project.write("mine.yaml", text)
    problems = project.problems(stage="top")
    assert len(problems) == 1
    assert "mine" in next(iter(problems))


def test_a_hydra_section_is_refused(project: Project) -> None:
    project.write("mine.yaml", "defaults: [trak, _self_]\nname: a\nhydra: {run: {dir: x}}\n")
    assert set(project.problems(stage="top")) == {"hydra"}


def test_representations_and_gradients_do_not_share_keys(shipped: Problems) -> None:
    assert set(shipped("config", "gradients.module=head", "gradients.side=input")) == {"gradients.module", "gradients.side"}
    found = shipped("config", "gradients=representation", "gradients.module=head", "parameters.include=[head.*]")
    assert set(found) == {"parameters.include"}
    refused = shipped("config", "gradients=representation", "gradients.side=middle")
    assert refused["gradients.side"].expected == "one of: input, output"


@pytest.mark.parametrize("entry", ["override hydra/job_logging: disabled", "hydra/launcher: basic"])
def test_a_hydra_option_in_the_defaults_list_is_refused(project: Project, entry: str) -> None:
    project.write("mine.yaml", f"defaults: [trak, _self_, {{{entry}}}]\nname: a\n")
    (problem,) = project.problems(stage="top").values()
    assert problem.where == str(project.folder / "mine.yaml")
    assert "hydra/" in problem.found
    assert "remove the entry" in str(problem.remedy)
