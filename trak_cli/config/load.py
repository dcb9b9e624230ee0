"""Loading the configuration for a stage: one checked object, or an error that names every problem."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trak_cli.config.compose.compose import Source, apply_changes, compose_files, own_tree
from trak_cli.config.compose.defaults_list import Groups, hydra_problems, lacks_defaults, list_problems, texts_for_groups
from trak_cli.config.compose.files import choose_config, config_groups
from trak_cli.config.compose.overrides import Parsed, add_values, parse
from trak_cli.config.compose.plugin_import import import_extensions, use_folder
from trak_cli.config.compose.shadowed_options import overruled
from trak_cli.config.compose.targets import complete_targets
from trak_cli.config.compose.yaml_text import text_of
from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.check import Checker, add_defaults
from trak_cli.config.validate.checkpoints import checkpoint_problems, start_problems
from trak_cli.config.validate.combinations import combination_problems
from trak_cli.config.validate.data_paths import data_path_problems
from trak_cli.config.validate.domain import absent, domain_problems, get
from trak_cli.config.validate.plugins import plugin_problems
from trak_cli.config.validate.stage_requirements import CHOSEN_BY_DEFAULT, REMEDIES, STAGES, TARGETS, Needs
from trak_cli.config.wording import covers, nearest, one_of
from trak_cli.errors import ConfigError, Problem


@dataclass(frozen=True)
class Loaded:
    """A checked configuration.

    Attributes:
        config: the values, resolved, as plain objects. Keys that the stage does not read may still be ``???`` or ``${…}``.
        raw: texts of interpolations that stay unresolved, because the stage does not need their value.
        base: the folder that relative paths start from (the current one).
    """

    config: TrakConfig
    raw: frozenset[str]
    base: Path

    @property
    def yaml(self) -> str:
        """The values as YAML text, for readers. ``${`` in resolved texts is escaped, so that the text reads back the same."""
        return text_of(self._escaped(asdict(self.config)))

    def _escaped(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._escaped(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._escaped(item) for item in value]
        return value.replace("${", "\\${") if isinstance(value, str) and value not in self.raw else value


def load(
    stage: str,
    config_name: str | None,
    config_dir: Path | None,
    overrides: Sequence[str],
    values: Mapping[str, Any] | None = None,
    data_files: bool = False,
) -> Loaded:
    """Compose the configuration and check everything that the stage uses, before any work.

    Args:
        stage: a key of :data:`STAGES`; it determines which keys are required.
        config_name: YAML file without its suffix; None: the only one in ``config_dir``, else the shipped ``trak``.
        config_dir: the user's folder of YAML files and plugin modules, searched before the shipped files.
        overrides: ``key=value``, ``+key=value``, ``~key`` and ``group=option``, in the syntax of Hydra.
        values: dotted key -> Python value, set after the overrides; a text for a group selects its option.
        data_files: also check that the files of shipped data sets exist, which a stage finds when it builds them.

    Raises:
        ConfigError: something is wrong; it carries every problem.
    """
    if stage not in STAGES:
        meant = nearest(stage, STAGES)
        remedy = f"did you mean {meant}?" if meant else "choose one of those"
        raise ConfigError(Problem("stage", repr(stage), one_of(list(STAGES)), remedy))
    source, groups = Source(choose_config(config_name, config_dir), config_dir), config_groups(config_dir)
    parsed = parse(overrides, groups, config_dir)
    add_values(parsed, values or {}, groups, config_dir)
    if config_dir is not None:
        use_folder(config_dir)
    of_hydra = list(hydra_problems(source))
    problems = [*parsed.problems, *of_hydra]
    try:
        tree = compose_files(source, parsed.choices)
    except ConfigError as error:
        # An option of Hydra in the defaults list also makes the composition fail.
        known = any(problem.where == str(source.own_file) for problem in of_hydra)
        problems += list(list_problems(source, groups)) or ([] if known else error.problems)
        raise ConfigError([*problems, *_problems_without_composition(source, parsed, groups)]) from error
    tree.pop("hydra", None)
    texts = list(texts_for_groups(source, tree, groups))
    parsed.dropped.update(problem.where for problem in texts)
    problems += [*texts, *overruled(source, parsed.choices, parsed.changes, tree), *apply_changes(tree, parsed.changes)]
    complete_targets(tree, source, parsed.changes)
    return _checked(replace(STAGES[stage], data_files=data_files), tree, source, parsed, problems)


def _checked(needs: Needs, tree: DictConfig, source: Source, parsed: Parsed, problems: list[Problem]) -> Loaded:
    add_defaults(tree)
    _name_after_store(tree)
    problems = [*problems, *import_extensions(OmegaConf.select(tree, "extensions"))]
    checker = Checker(needs.reads, parsed.dropped, source.own_values, needs.requires)
    config = checker.read(TrakConfig, tree)
    _expand_home(config)
    problems += checker.problems
    base = Path.cwd()
    for problem in [*_value_problems(config), *_needed(needs, config, base, parsed.dropped, source)]:
        # Skip problems that are caused by an earlier one: a refused key keeps its default. A list has a problem for each item.
        if not any(covers(known.where, problem.where) and not _alike(known, problem) for known in problems):
            problems.append(problem)
    if problems:
        raise ConfigError(problems)
    return Loaded(config, frozenset(checker.raw), base)


def _alike(one: Problem, other: Problem) -> bool:
    """Whether two problems are the same one, of different values of a key."""
    return (one.where, one.expected) == (other.where, other.expected) and one.found != other.found


def _value_problems(config: TrakConfig) -> Iterator[Problem]:
    """Values that a key does not accept, and values that do not fit each other."""
    refused: list[str] = []
    for problem in domain_problems(config):
        refused.append(problem.where)
        yield problem
    yield from (problem for problem in combination_problems(config) if problem.where not in refused)


def _problems_without_composition(source: Source, parsed: Parsed, groups: Groups) -> Iterator[Problem]:
    """Problems of the user's own file and of the overrides, for files that cannot be composed."""
    tree = own_tree(source)
    tree.pop("hydra", None)
    yield from texts_for_groups(source, tree, groups)
    yield from apply_changes(tree, [change for change in parsed.changes if not change.delete])
    checker = Checker(lambda _: False, own=source.own_values)
    add_defaults(tree)
    config = checker.read(TrakConfig, tree)
    yield from checker.problems
    yield from _value_problems(config)


def _needed(needs: Needs, config: TrakConfig, base: Path, dropped: set[str], source: Source) -> Iterator[Problem]:
    """Required keys without a value, plugins that cannot be built, and checkpoint patterns without a file."""
    for key in absent(config, needs.required):
        # A refused override may have been meant to set this key; a refused experiment could have set any key.
        names = ("name", "store") if key == "store" else (key,)
        if "experiment" not in dropped and not any(
            covers(name, lost) or covers(lost, name) for name in names for lost in dropped
        ):
            yield _missing(key, source)
    for plugin in needs.plugins if needs.imports else ():
        node = get(config, plugin)
        nodes = {f"{plugin}.{name}": item for name, item in node.items()} if plugin == TARGETS else {plugin: node}
        for key, item in nodes.items():
            if plugin == TARGETS or item not in (None, MISSING):
                yield from plugin_problems(item, key)
                if needs.data_files:
                    yield from data_path_problems(item, key, base)
    waits_for_name = config.name == MISSING and "${" in str(config.checkpoints.files)
    if "checkpoints" in needs.required and not waits_for_name:
        yield from checkpoint_problems(config.checkpoints, base)
    if "trainer" in needs.required and not (config.name == MISSING and "${" in str(config.train.start)):
        yield from start_problems(config.train.start, base)


def _missing(key: str, source: Source) -> Problem:
    if key == "store":
        return Problem("name", "nothing", "a name for the run (its store is then runs/NAME)", "give name=NAME or store=FOLDER")
    expected, remedy = REMEDIES[key]
    if key in CHOSEN_BY_DEFAULT and lacks_defaults(source):
        found = f"nothing: {source.own_file} has no defaults line, which chooses one"
        return Problem(key, found, expected, "begin the file with the line defaults: [trak, _self_]")
    return Problem(key, "nothing", expected, remedy)


def _name_after_store(tree: DictConfig) -> None:
    """Name a run that has a store and no name after the folder of the store."""
    if not OmegaConf.is_missing(tree, "name"):
        return
    try:
        store = tree["store"]
    except OmegaConfBaseException:  # it refers to the name, or is broken; the checker reports that
        return
    if isinstance(store, str) and store and (name := Path(os.path.abspath(store)).name):  # the absolute path, for store=.
        tree["name"] = name


def _expand_home(config: TrakConfig) -> None:
    """Replace a leading ``~`` in paths by the home folder."""
    for section, name in ((config, "store"), (config.train, "folder"), (config.train, "start"), (config.tune, "folder")):
        if isinstance(path := getattr(section, name), str):
            setattr(section, name, os.path.expanduser(path))
    if config.lds.ground_truth is not None:
        config.lds.ground_truth = os.path.expanduser(config.lds.ground_truth)
