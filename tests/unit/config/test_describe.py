"""Every key is explained, in the terminal and in docs/configuration.md."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from config_project import Project

from trak_cli.config.describe import as_text, describe_sections
from trak_cli.config.wording import all_keys
from trak_cli.errors import ConfigError

ROOT = Path(__file__).parents[3]


def test_every_key_and_every_option_has_an_explanation() -> None:
    sections = describe_sections()
    explained = {key.key for section in sections for key in section.keys if key.help}
    keys = {key for key in all_keys() if not any(other.startswith(f"{key}.") for other in all_keys())}
    assert {key for key in keys - explained if not key.startswith("estimator.")} == set()
    assert not [(section.name, option) for section in sections for option, text in section.options.items() if not text]


def test_the_page_is_what_the_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "docs" / "configuration.py"))
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == script["page"](), (
        "run python scripts/docs/configuration.py"
    )


def test_user_defined_sections_keys_and_options_are_described(project: Project) -> None:
    project.write("model/big.yaml", "# A big one.\n_target_: plug.Net\n")
    text = as_text(describe_sections(["model", "projection.dim"], project.folder))
    assert "model=big\n      A big one." in text
    assert "projection.dim: 4096" in text
    assert "projection.seed" not in text


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"did you mean projection\.dim"):
        describe_sections(["projection.din"])
