"""What a good configuration comes to: layers, precedence, groups, plain objects."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from config_project import Project
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from trak_cli.config.compose.files import config_groups, shipped_folder
from trak_cli.config.estimators import shipped_estimators
from trak_cli.config.load import load
from trak_cli.config.schema import EstimatorConfig, TrakConfig
from trak_cli.config.validate.plugins import plugin_problems


def test_shipped_defaults_are_those_of_the_schema_and_the_selected_groups() -> None:
    config = load("top", None, None, ["name=run"]).config
    expected = TrakConfig(name="run", store="runs/run")
    expected.task = {"_target_": "trak_cli.tasks.Classification"}
    expected.trainer = {"_target_": "trak_cli.plugins.SGDTrainer"}
    expected.estimator = EstimatorConfig(**asdict(shipped_estimators()["early_training"]))
    expected.projection.seed = 0
    expected.train.folder = "runs/run/checkpoints"
    assert config == expected


def test_the_shipped_file_selects_options_and_states_no_default() -> None:
    shipped = OmegaConf.to_container(OmegaConf.load(Path(__file__).parents[3] / "configs" / "trak.yaml"))
    assert isinstance(shipped, dict)
    assert set(shipped) == {"defaults"}
    selected = {group for item in shipped["defaults"] if isinstance(item, dict) for group in item}
    assert selected == set(config_groups())


def test_the_digits_example_lacks_only_its_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "digits" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "0.safetensors").touch()
    loaded = load("featurize", None, None, ["experiment=digits"])
    assert loaded.base == tmp_path
    assert loaded.config.checkpoints.files == "runs/digits/checkpoints/*.safetensors"
    assert loaded.config.projection.dim == 512
    assert list(loaded.config.dataset.targets) == ["test"]
    for stage in ("train", "retrain", "config"):
        assert load(stage, None, None, ["experiment=digits"]).config == loaded.config


def test_every_shipped_option_composes() -> None:
    left = [(group, option) for group, options in config_groups().items() for option in options]
    while left:  # one option of every group at a time
        choices = dict(left)
        config = load("config", None, None, ["name=run", *(f"{group}={option}" for group, option in choices.items())]).config
        assert config.projection.kind == choices.get("projection", "sjlt")
        nodes = [config.model, config.task, config.trainer, config.dataset.train, *config.dataset.targets.values()]
        assert [problem for node in nodes if node is not None for problem in plugin_problems(node, "plugin")] == []
        left = [choice for choice in left if choice not in choices.items()]


def test_groups_are_listed_with_those_of_the_user(project: Project) -> None:
    project.write("model/big.yaml", "_target_: plug.Net\n")
    project.write("data/readme.txt", "no group")
    assert config_groups()["gradients"] == ["auto", "hooks", "loop", "representation", "vmap"]
    groups = config_groups(project.folder)
    assert {"big", "digits_cnn"} <= set(groups["model"])
    assert "data" not in groups


def test_a_users_file_inherits_the_defaults_and_overrides_them(project: Project) -> None:
    project.write("mine.yaml", "defaults: [trak, _self_]\nname: other\nprojection: {dim: 64}\n")
    config = project.load(stage="top").config
    assert (config.name, config.projection.dim, config.projection.kind) == ("other", 64, "sjlt")


def test_overrides_win_over_the_users_file_and_the_last_one_wins(project: Project) -> None:
    project.write("mine.yaml", "defaults: [trak, _self_]\nname: other\nprojection: {dim: 64}\n")
    assert project.load("projection.dim=64", "projection.dim=128", stage="top").config.projection.dim == 128


def test_a_users_file_wins_over_the_experiment_it_selects(project: Project) -> None:
    project.write(
        "mine.yaml",
        """
        defaults:
          - trak
          - _self_
          - override experiment: digits
        projection: {dim: 64}
        """,
    )
    config = project.load(stage="top").config
    assert (config.name, config.projection.dim, config.train.count) == ("digits", 64, 5)


def test_a_group_and_a_value_in_it_can_both_be_given_in_any_order() -> None:
    for overrides in (
        ["gradients.memory_mb=512", "gradients=loop"],
        ["gradients=vmap", "+gradients=loop", "gradients.memory_mb=512"],
    ):
        gradients = load("top", None, None, ["name=run", *overrides]).config.gradients
        assert (gradients.engine, gradients.memory_mb) == ("loop", 512)


def test_the_users_options_come_before_the_shipped_ones(project: Project) -> None:
    project.write("projection/sjlt.yaml", "kind: sjlt\ndim: 320\nnonzeros: 4\n")
    project.write("cluster/big.yaml", "# @package _global_\nthreads: 3\n")
    config = project.load("projection=sjlt", "cluster=big", stage="top").config
    assert (config.projection.dim, config.threads) == (320, 3)


def test_a_folder_named_like_a_key_is_not_a_group(project: Project) -> None:
    project.write("checkpoints/notes.yaml", "a: 1\n")
    assert project.load("checkpoints=*.pt").config.checkpoints.files == "*.pt"


@pytest.mark.parametrize(("written", "ridge"), [("0.5", 0.5), ("3", 3.0), ("1e-3", 0.001), ("null", None)])
def test_a_ridge_is_a_number_or_null(written: str, ridge: float | None) -> None:
    assert load("score", None, None, ["name=run", f"estimator.ridge={written}"]).config.estimator.ridge == ridge


def test_estimators_are_named_after_their_files_and_are_those_of_the_family() -> None:
    for name in config_groups()["estimator"]:
        estimator = load("score", None, None, ["name=run", f"estimator={name}"]).config.estimator
        assert estimator.name == name
        assert estimator.spec == shipped_estimators()[name]


def test_interpolations_and_the_environment_are_resolved(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAK_TEST_ROWS", "7")
    config = project.load(
        "dataset.train.rows='${oc.decode:${oc.env:TRAK_TEST_ROWS}}'",
        "dataset.targets.again=${dataset.targets.test}",
        "model.width=${dataset.train.rows}",
    ).config
    assert config.dataset.train["rows"] == config.model["width"] == 7
    assert config.dataset.targets["again"] == config.dataset.targets["test"]
    assert type(config.dataset.targets["again"]) is dict


def test_nulls_deletions_lists_and_mappings(project: Project) -> None:
    config = project.load(
        "~model.width",
        "+model={width: 9}",
        "threads=null",
        "score.splits=[test]",
        "parameters.exclude=['head.*']",
        "~dataset.targets.test",
        "trainer=null",
    ).config
    assert config.model["width"] == 9
    assert config.score.splits == ["test"]
    assert config.parameters.exclude == ["head.*"]
    assert config.dataset.targets == {}
    assert config.trainer is None


def test_a_mapping_and_a_list_replace_each_other(project: Project) -> None:
    values = ("+dataset.train.transform=[a, b]", "dataset.train.transform={a: 1}", "dataset.train.transform={b: 2}")
    assert project.load(*values).config.dataset.train["transform"] == {"a": 1, "b": 2}
    assert project.load(*values, "dataset.train.transform=[c]").config.dataset.train["transform"] == ["c"]


def test_a_run_without_a_name_is_called_after_its_store() -> None:
    config = load("status", None, None, ["store=somewhere/here/"]).config
    assert (config.name, config.store) == ("here", "somewhere/here/")


@pytest.mark.parametrize(("store", "name"), [(".", "here"), ("./", "here"), ("..", "somewhere"), ("../there/.", "there")])
def test_the_current_folder_is_a_store_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, name: str
) -> None:
    (tmp_path / "somewhere" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "somewhere" / "here")
    config = load("status", None, None, [f"store={store}"]).config
    assert (config.name, config.store) == (name, store)


def test_the_yaml_is_resolved_and_reads_back_the_same(project: Project) -> None:
    loaded = project.load(r"dataset.train.transform=\${not.one}", "estimator.ridge=1e-3")
    assert loaded.config.dataset.train["transform"] == "${not.one}"
    project.write("back/saved.yaml", loaded.yaml)
    assert load("featurize", "saved", project.folder / "back", []).config == loaded.config


def test_configuration_without_a_name_can_be_looked_at() -> None:
    loaded = load("config", None, None, [])
    assert loaded.config.name == "???"
    assert "store: runs/${name}" in loaded.yaml


def test_the_only_yaml_file_needs_no_name(project: Project) -> None:
    assert project.load().config.name == "mine"
    project.write("second.yaml", "defaults: [trak, _self_]\nname: second\n")
    assert set(project.problems()) == {"--config-name"}
    project.name = "second.yaml"
    assert project.load(stage="top").config.name == "second"


@pytest.mark.parametrize("defaults", ["[trak, _self_]", "[trak, _self_, {override projection: none}]"])
def test_a_file_called_trak_inherits_the_shipped_one(project: Project, defaults: str) -> None:
    own = project.folder / "mine.yaml"
    text = own.read_text().replace("[trak, _self_]", defaults)
    own.rename(project.folder / "trak.yaml").write_text(text)
    config = project.load("estimator=cosine", "threads=2").config
    assert config.model["width"] == 4
    assert (config.estimator.name, config.threads, config.trainer["_target_"]) == ("cosine", 2, "trak_cli.plugins.SGDTrainer")
    assert config.projection.kind == ("none" if "none" in defaults else "sjlt")


def test_a_folder_of_plugins_only_uses_the_shipped_config(project: Project) -> None:
    (project.folder / "mine.yaml").unlink()
    assert project.load("name=run", stage="top").config.name == "run"


def test_shipped_files_are_found_in_an_installed_package_too(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(__file__).parents[3] / "configs"
    spec = importlib.util.spec_from_file_location(
        "trak_cli.configs", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    monkeypatch.setitem(sys.modules, "trak_cli.configs", importlib.util.module_from_spec(spec))
    monkeypatch.setattr("trak_cli.config.compose.files.source_folder", lambda: Path("/nowhere"))
    shipped_folder.cache_clear()
    assert config_groups()["gradients"] == ["auto", "hooks", "loop", "representation", "vmap"]
    assert load("top", None, None, ["name=run", "gradients=loop"]).config.gradients.engine == "loop"
    assert project.load("gradients=loop").config.gradients.engine == "loop"


def test_loading_leaves_the_global_hydra_of_the_caller_as_it_is(project: Project) -> None:
    with initialize_config_dir(str(project.folder), version_base="1.3"):
        own = GlobalHydra.instance().hydra
        project.load("gradients=loop")
        project.problems("gradients=lop")
        assert GlobalHydra.instance().hydra is own
    project.load("gradients=loop")
    assert not GlobalHydra.instance().is_initialized()


def test_one_seed_serves_the_whole_run_and_the_projection_can_have_its_own() -> None:
    assert load("top", None, None, ["name=run", "seed=3"]).config.projection.seed == 3
    config = load("top", None, None, ["name=run", "seed=3", "projection.seed=5"]).config
    assert (config.seed, config.projection.seed) == (3, 5)


def test_a_grid_keeps_the_values_of_fields_that_are_not_given() -> None:
    default = TrakConfig().tune.grid
    grid = load("tune", None, None, ["name=run", "tune.grid.gram_exponent=[1, 2]", "~tune.grid.weights"]).config.tune.grid
    assert grid == {name: values for name, values in default.items() if name != "weights"} | {"gram_exponent": [1.0, 2.0]}
    assert all(isinstance(value, float) for value in grid["gram_exponent"])


def test_extensions_are_imported_before_anything_is_checked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "my_rules", raising=False)
    project.write("my_rules.py", "loaded = True\n")
    assert project.load("extensions=[my_rules]").config.extensions == ["my_rules"]
    assert sys.modules["my_rules"].loaded
    project.write("broken_rules.py", "1 / 0\n")
    problems = project.problems("extensions=[gone_rules, my_rules, broken_rules]", "features.dtype=f8")
    assert set(problems) == {"extensions[0]", "extensions[2]", "features.dtype"}
    assert "ZeroDivisionError" in problems["extensions[2]"].found


def test_mistakes_in_a_grid_are_all_named(project: Project) -> None:
    problems = project.problems(
        "+tune.grid.front=[1]", "tune.grid.metric=[gram, 1]", "tune.grid.ridge=1w", "tune.grid.shrinkage=[much, 0.1]"
    )
    assert set(problems) == {f"tune.grid.{name}" for name in ("front", "metric", "ridge", "shrinkage")}
    assert problems["tune.grid.ridge"].remedy == "write 'tune.grid.ridge=[1w]'"
    assert set(project.problems("tune.grid=[gram]")) == {"tune.grid"}
