"""``trak ask``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from trak_cli.cli.results.top import show_neighbours
from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, Stage, imported, run
from trak_cli.errors import ConfigError, Problem
from trak_cli.plurals import counted
from trak_cli.user_files import parse_json

if TYPE_CHECKING:
    from trak_cli.results.ask import AskSummary

NAME = "ask"
HELP = """Score new samples against a finished store: which training samples raised or lowered the model output on them?

The features of the samples are computed as trak featurize computes them, under every checkpoint, and compared with those of
the store, which stays as it is. A sample is made by the data set of a target split (docs/ask.md): name its values with the
options below. An option that is repeated names several samples; --label once holds for all of them."""
EXAMPLES = """Examples:

  trak ask experiment=digits --image three.png --label 3

  trak ask -d my_project --text "a dull film" --label 0 --text "a great film" --label 1

  trak ask -d my_project --prompt "The capital of France is" --completion " Paris" -k 10

  trak ask -d my_project --row 5.1,3.5,1.4,0.2 --label setosa

  trak ask -d my_project --sample '{"source": "Guten Tag", "target": "good day"}' --json

  trak ask -d my_project --file questions.jsonl --report answers.html

  trak ask -d my_project --text "a dull film" --label 0 --candidates 1000     (after trak compress)"""

_MANY = "may be repeated"


def command(
    overrides: Overrides = None,
    text: Annotated[list[str] | None, typer.Option("--text", help=f"A text; {_MANY}.")] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help=f"A prompt, with --completion; {_MANY}.")] = None,
    completion: Annotated[list[str] | None, typer.Option("--completion", help=f"What follows the prompt; {_MANY}.")] = None,
    image: Annotated[list[str] | None, typer.Option("--image", metavar="FILE", help=f"An image file; {_MANY}.")] = None,
    row: Annotated[
        list[str] | None, typer.Option("--row", metavar="NUMBERS", help=f"Numbers, as 1,2.5,3 or a JSON list; {_MANY}.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help=f"The label, by name or number; {_MANY}.")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="NAME=VALUE", help="Another value, such as a caption; repeated for several names."),
    ] = None,
    sample: Annotated[
        list[str] | None,
        typer.Option("--sample", metavar="JSON", help=f"A sample: values by name, or lists and numbers; {_MANY}."),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="Samples from a .jsonl, .json, .csv or .tsv file; -: stdin.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", "-s", help="The split whose data set makes the samples (default: the first).")
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates",
            min=1,
            help="Score only so many training samples of each end, chosen by compressed features (see trak compress).",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Also write an HTML page, as that of trak report.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many helpful and how many harmful samples to show.")] = 5,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    named = {"text": text, "prompt": prompt, "completion": completion, "image": image, "row": row, "label": label}

    def stage() -> Stage[AskSummary]:
        records = _records({name: values for name, values in named.items() if values}, field or [], sample or [], file)
        from trak_cli.results.ask import Shown

        return imported(NAME, "results", records=records, split=split, shown=Shown(k, candidates, report))

    run(NAME, Call(overrides, config_name, config_dir, as_json), stage, show)


def show(summary: AskSummary, console: Console) -> None:
    for number, (target, output) in enumerate(zip(summary.targets, summary.outputs, strict=True)):
        says = "" if target.predicted is None else f", {target.predicted.clause()}"
        about = f"new target {number} ({target.description}{says}), f = {output:.4g}, estimator {summary.estimator}"
        console.print(about, soft_wrap=True)
        show_neighbours(target, console, {})
    console.print(
        f"{counted(summary.rows, 'training row')}, {counted(len(summary.checkpoints), 'checkpoint')},"
        f" samples made as in {summary.split}"
    )


def _records(named: dict[str, list[str]], fields: list[str], samples: list[str], file: str | None) -> list[Any]:
    """What each sample consists of.

    Raises:
        ConfigError: options that do not go together.
    """
    from trak_cli.results.new_samples import read_records

    counts = {name: len(values) for name, values in named.items()}
    count = max(counts.values(), default=0)
    problems = [
        Problem(
            f"--{name}", f"{given} of them", f"{count}, one for each sample" + (", or 1" if name == "label" else ""), "add it"
        )
        for name, given in counts.items()
        if given != count and not (name == "label" and given == 1)
    ]
    ConfigError.raise_for(problems)
    others = dict(_pair(text) for text in fields)
    records: list[Any] = [
        {**{name: _value(name, values[min(place, len(values) - 1)]) for name, values in named.items()}, **others}
        for place in range(max(count, int(bool(others) and not samples and file is None)))
    ]
    records += [_json("--sample", text) for text in samples]
    records += read_records(file) if file is not None else []
    if not records:
        expected = "a sample: --text, --prompt and --completion, --image, --row, --sample or --file"
        raise ConfigError(Problem("trak ask", "no sample", expected, "name one, for example --text 'a text'"))
    return records


def _value(name: str, text: str) -> Any:
    if name != "row":
        return text
    return _json("--row", text if text.lstrip().startswith("[") else f"[{text}]")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(Problem("--field", text, "NAME=VALUE", "write it as --field caption='a cat'"))
    return name, value


def _json(option: str, text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        expected = "numbers separated by commas, or a JSON list" if option == "--row" else "JSON"
        raise ConfigError(Problem(option, f"{text!r:.60} ({error})", expected, "correct it; quote it for the shell")) from None
