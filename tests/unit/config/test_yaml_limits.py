"""A configuration with more values, levels or digits than one needs is refused at once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.cli import main
from lakehouse.config import load
from lakehouse.config.yaml_source import MAX_BYTES, MAX_DEPTH, MAX_VALUES
from lakehouse.errors import ConfigError, ExitCode


def nine_of_each(first: str, of_nine: Callable[[str], str]) -> str:
    """Return a file whose every line contains the line before nine times."""
    lines = [f"{name}: &{name} {of_nine(base)}" for base, name in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join([f"a: &a {first}", *lines])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (nine_of_each("[x]", lambda base: f"[{', '.join([f'*{base}'] * 9)}]"), f"more than {MAX_VALUES:,} values"),
        (
            nine_of_each("{x: 1}", lambda base: f"{{{', '.join(f'k{n}: *{base}' for n in range(9))}}}"),
            f"more than {MAX_VALUES:,} values",
        ),
        (
            nine_of_each("{x: 1}", lambda base: f"{{<<: [{', '.join([f'*{base}'] * 9)}]}}"),
            f"more than {MAX_VALUES:,} values",
        ),
        ("- x\n" * (MAX_VALUES + 1), f"more than {MAX_VALUES:,} values"),
        ("x: " + "[" * 3_000, f"more than {MAX_DEPTH} levels"),
        ("{a: " * 3_000, f"more than {MAX_DEPTH} levels"),
        ("- " * 3_000, f"more than {MAX_DEPTH} levels"),
        ("? " * 3_000, f"more than {MAX_DEPTH} levels"),
        ("".join(" " * level + "a:\n" for level in range(3_000)), f"more than {MAX_DEPTH} levels"),
        ("#" * (MAX_BYTES + 1), f"larger than {MAX_BYTES >> 20} MiB"),
        ("name: " + "9" * 1_000_000, "not a value that YAML can read"),
        ("name: 1" + ":1" * 100_000, "not a value that YAML can read"),
        ("a: &a {<<: *a}", "missing, and required"),
        ("a: &a {b: &b {<<: *a}, <<: *b}", "an alias that contains itself"),
    ],
    ids=lambda text: text[:10],
)
def test_a_file_beyond_the_limits_is_refused_at_once(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "pipeline.yml").write_text(text)
    started = time.process_time()

    with pytest.raises(ConfigError) as error:
        load(tmp_path)

    assert found in error.value.found
    assert time.process_time() - started < 10


def test_json_has_the_same_limits(tmp_path: Path) -> None:
    (tmp_path / "pipeline.json").write_text('{"a": ' * 3_000)

    with pytest.raises(ConfigError, match=f"more than {MAX_DEPTH} levels"):
        load(tmp_path)


def test_merges_and_aliases_within_the_limits_are_read(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yml").write_text(
        "name: shop\nlake: lake\nsource: {type: files, path: in}\ntables:\n"
        "  a: &a {file: a.csv, format: csv, schema: id INT, keys: [id]}\n"
        + "".join(f"  t{n}: {{<<: *a, file: t{n}.csv}}\n" for n in range(300))
    )

    pipeline = load(tmp_path)

    assert len(pipeline.tables) == 301
    assert (pipeline.tables["t7"].file, pipeline.tables["t7"].keys) == ("t7.csv", pipeline.tables["a"].keys)


DEEP = "SELECT " + "(" * 3_000 + "t.id" + ")" * 3_000 + " AS id FROM bronze.t AS t"


@pytest.mark.parametrize("sql", [DEEP, "SELECT (" * 2_000], ids=["parentheses", "subqueries"])
def test_sql_that_is_nested_too_deeply_is_refused(tmp_path: Path, sql: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pipeline.yml").write_text(
        "name: shop\nlake: lake\nsource: {type: files, path: in}\nsilver: {s: {keys: [id]}}\n"
        "tables:\n  t: {file: t.csv, format: csv, schema: id INT, keys: [id]}\n"
    )
    (tmp_path / "silver").mkdir()
    (tmp_path / "silver" / "s.sql").write_text(sql)

    assert main(["validate", str(tmp_path)]) == ExitCode.USAGE
    assert "found:" in capsys.readouterr().err


FRAGMENTS = [
    "name",
    "lake",
    "<<",
    "*a",
    "&a ",
    "&b ",
    "*b",
    ": ",
    "- ",
    "\n",
    "  ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "'",
    '"',
    "\t",
]
FRAGMENTS += [
    "!!int ",
    "!!binary ",
    "!!set ",
    "!!omap ",
    "!x ",
    "? ",
    "|\n",
    ">\n",
    "#",
    "0x",
    "1:2",
    "~",
    "null",
    "1e9",
    "=",
]
FRAGMENTS += ["${A}", "${A:-", "%YAML", "---", "...", "\x1b", "\u2028", "!!python/object:os.system "]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_pipeline_or_an_error_of_the_configuration(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder, suppress(ConfigError):
        Path(folder, "pipeline.yml").write_text(text)
        load(folder, {"A": "x"})


def test_a_tag_on_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yml").write_text("name: !!int\n")

    with pytest.raises(ConfigError, match="not a value that YAML can read"):
        load(tmp_path)
