"""Shell completion: what a shell is offered for overrides, groups and config names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trak_cli.cli.app import app


def completed(words: str, shell: str = "zsh", **more: str) -> str:
    """What the program prints when a shell asks it to complete the last word."""
    env = {"_TRAK_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": words, **more}
    return CliRunner().invoke(app, prog_name="trak", env=env).stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("trak fina", ["finalize"]),
        ("trak score estimator=c", ["estimator=cosine"]),
        ("trak score estim", ["estimator.", "estimator="]),
        ("trak score proj", ["projection.", "projection="]),
        ("trak score projection.", ["projection.dim=", "projection.seed="]),
        ("trak featurize gradients.eng", ["gradients.engine=auto", "gradients.engine=hooks"]),
        ("trak score score.over", ["score.overwrite=true", "score.overwrite=false"]),
        ("trak score -n tr", ["trak"]),
    ],
)
def test_what_is_offered(typed: str, offered: list[str]) -> None:
    found = completed(typed)
    for text in offered:
        assert text in found, found


def test_the_folder_of_the_user_is_searched_too(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("")
    (tmp_path / "first.yaml").write_text("")
    assert "model=mine" in completed(f"trak score -d {tmp_path} model=m")
    assert "first" in completed(f"trak score -d {tmp_path} -n f")


@pytest.mark.parametrize("typed", ["trak score estimator = c", "trak score estimator ="])
def test_bash_which_splits_words_at_equals_signs_is_offered_the_value_alone(typed: str) -> None:
    place = str(len(typed.split()) - 1)
    env = {"_TRAK_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": place}
    found = CliRunner().invoke(app, prog_name="trak", env=env).stdout.split()
    assert "cosine" in found
    assert not any("=" in text for text in found)


def test_completion_imports_neither_pytorch_nor_hydra() -> None:
    code = (
        "import os, sys; os.environ.update(_TRAK_COMPLETE='complete_zsh', _TYPER_COMPLETE_ARGS='trak score estimator.')\n"
        "from trak_cli.cli.app import app\n"
        "try: app(prog_name='trak')\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'hydra'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "estimator.ridge=" in done.stdout
    assert done.stderr.strip() == "[]"


#: A terminal in which zsh completes a line: the script prints what the line has become.
ZSH = """
zmodload zsh/zpty
zpty terminal zsh -f -i
zpty -w terminal "autoload -Uz compinit; compinit -u -D; source ./trak; print REA''DY"
zpty -r -m terminal line '*READY*'
zpty -n -w terminal $'trak score estimator=c\\t'
zpty -r -m terminal line '*estimator=cosine*' && print -r -- "$line"
"""


def in_shell(shell: str, folder: Path, command: str) -> str:
    """What a real shell prints that has read the completion of the program."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TERM": "dumb"}
    asked = {**environment, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = subprocess.run(["trak", "--show-completion", shell], env=asked, capture_output=True, text=True, check=True).stdout
    (folder / "trak").write_text(script)
    done = subprocess.run(
        [shell, "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize(("typed", "offered"), [("trak score estimator=c", "estimator=cosine"), ("trak top --spl", "--split")])
def test_fish_offers_it(tmp_path: Path, typed: str, offered: str) -> None:
    assert offered in in_shell("fish", tmp_path, f"source trak; complete -C '{typed}'")


def test_zsh_completes_the_line(tmp_path: Path) -> None:
    assert "trak score estimator=cosine" in in_shell("zsh", tmp_path, ZSH)
