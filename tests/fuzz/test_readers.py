"""No reader of a damaged file crashes, hangs, or returns wrong values; scripts/fuzz_readers.py runs many more cases."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from harness import Reader, fuzz
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import other_readers
from stored import store_readers

from trak_cli.config.compose.files import config_groups
from trak_cli.config.compose.overrides import parse
from trak_cli.user_files import parse_json
from trak_cli.user_yaml import parse_yaml

#: Readers that take milliseconds for a case, with a fixed seed; the others are tried by the script.
QUICK = [reader for reader in (*store_readers(), *other_readers()) if reader.share == 1.0]

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("reader", QUICK, ids=lambda reader: reader.name)
def test_damage_is_refused_by_a_user_error_or_read(reader: Reader, tmp_path: Path) -> None:
    outcome = fuzz(reader, tmp_path, range(25), seed=0)
    assert outcome.cases == 25
    assert not outcome.faults, outcome.faults


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.text())
def test_any_text_is_json_yaml_or_an_override_or_is_refused(text: str) -> None:
    for read in (parse_json, parse_yaml):
        with contextlib.suppress(ValueError):
            read(text)
    parsed = parse([text, f"name={text}", f"+{text}=1"], config_groups(), None)
    assert len(parsed.problems) + len(parsed.changes) + len(parsed.choices) == 3


@settings(max_examples=50, deadline=None, derandomize=True)
@given(_values)
def test_json_is_read_as_it_was_written(value: object) -> None:
    text = json.dumps(value)
    try:
        found = parse_json(text)
    except ValueError:  # half of a surrogate pair
        assert "\\ud" in text
    else:
        assert json.dumps(found) == text
