"""README in both languages and docs/tutorial.md: what a reader types works, and prints what the pages show."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from pyspark.sql import SparkSession
from transcript import Transcript, assert_lines_in_order, parse_steps, split_commands

REPOSITORY = Path(__file__).parents[2]
READMES = [REPOSITORY / "README.md", REPOSITORY / "README.pt-BR.md"]
TUTORIAL = REPOSITORY / "docs" / "tutorial.md"


def commands(page: Path) -> list[str]:
    """Return all commands of a page, those that are not run included."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [re.sub(r"\s+#.*", "", command) for block in blocks for command in split_commands(block)]


@pytest.mark.parametrize("page", [*READMES, TUTORIAL], ids=lambda page: page.name)
def test_a_reader_who_types_the_page_sees_what_it_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: SparkSession
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAKE_ROOT", raising=False)
    reader = Transcript(tmp_path)

    reader.follow(page.read_text(encoding="utf-8"))

    assert len(reader.commands) >= (20 if page == TUTORIAL else 2)


def test_both_languages_have_the_same_commands_files_and_tables() -> None:
    english, portuguese = READMES
    kinds = ("sh", "file", "table")
    steps = [[s for s in parse_steps(page.read_text(encoding="utf-8")) if s.kind in kinds] for page in READMES]

    assert [(s.kind, s.path, s.text if s.kind != "sh" else "") for s in steps[0]] == [
        (s.kind, s.path, s.text if s.kind != "sh" else "") for s in steps[1]
    ]
    assert commands(english) == commands(portuguese)


@pytest.mark.parametrize("lines", ["b\na", "a c", "ab", "a … d"])
def test_what_a_page_shows_and_nobody_printed_is_found(lines: str) -> None:
    assert_lines_in_order("a …\nb", "a  b c\n  b")
    with pytest.raises(AssertionError, match="not printed"):
        assert_lines_in_order(lines, "a  b c\n  b")


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("`t`\n\n| id | qty |\n|---|---|\n| a | 2 |\n", "t"),
        ("`t`\n\n| id | qty |\n|---|---|\n", "t"),
        ("`t`\n\n| id |\n|---|\n| a |\n| b |\n", "t"),
        ("`f.csv`: a file\n```csv\nid\nb\n```\n", "not printed"),
        ("```sh\nls f.csv\n```\n\n```text\ng.csv\n```\n", "not printed"),
        ("```sh\nls missing\n```\n", "missing"),
        ("```sh\nls f.csv    # exit code 4\n```\n", "exit code 4"),
        ("```sh\nlakehouse explain nothing gold.m\n```\n", "explain"),
    ],
)
def test_a_page_that_shows_something_else_fails(
    page: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.csv").write_text("id\na\n", encoding="utf-8")
    (tmp_path / "t").mkdir()
    pl.DataFrame({"id": ["a"], "qty": [1]}).write_parquet(tmp_path / "t" / "0.parquet")
    Transcript(tmp_path).follow("`t`\n\n| id | qty |\n|---|---|\n| a | 1 |\n\n`f.csv`\n```csv\nid\na\n```\n")
    Transcript(tmp_path).follow("```sh\nls *.csv\n```\n```text\nf.csv\n```\n")

    with pytest.raises(AssertionError, match=message):
        Transcript(tmp_path).follow(page)


def test_a_block_that_says_why_is_not_run(tmp_path: Path) -> None:
    reader = Transcript(tmp_path)
    reader.follow("<!-- not run: it would fail -->\n```sh\nfalse\n```\n")

    assert reader.commands == []
