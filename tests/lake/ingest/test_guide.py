"""Tests the rules of docs/reference/changes, and docs/reference/lake.md, example by example."""

from __future__ import annotations

from pathlib import Path

import pytest
from guide import Example, GuideError, Section, parse_sections
from pyspark.sql import SparkSession

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
PAGES = [REFERENCE / "lake.md", *sorted((REFERENCE / "changes").glob("*.md"))]
SECTIONS = [section for page in PAGES for section in parse_sections(page.read_text(encoding="utf-8"))]
WITHOUT_EXAMPLE = {"The rules of change data capture", "Limits"}
BEGINNING = "# A\n`20250101_000000/items.csv`\n```csv\nid,qty,note\na,1,x\n```\n"
RUN = "```sh\nlakehouse run conf/shop items\n```\n"
BRONZE = "**bronze**\n| id | qty | note |\n|---|---|---|\n"


@pytest.mark.parametrize("section", [s for s in SECTIONS if s.is_example], ids=lambda s: s.title)
def test_the_examples_of_the_guide_are_correct(section: Section, tmp_path: Path, spark: SparkSession) -> None:
    Example(section, tmp_path, spark).check()


def test_every_page_is_an_example_or_is_listed_as_none() -> None:
    assert len(SECTIONS) == len(PAGES) > 12
    assert {s.title for s in SECTIONS if not s.is_example} == WITHOUT_EXAMPLE


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (BEGINNING, "no command takes"),
        (BEGINNING + RUN, "nothing is expected"),
        (BEGINNING + RUN + BEGINNING.removeprefix("# A\n") + RUN + BRONZE + "| a | 1 | x |\n", "nothing is expected"),
        ("# A\n" + BRONZE + "| a | 1 | x |\n", "a caption, but no command"),
        (BEGINNING + RUN + "**brass**\n| id |\n|---|\n| a |\n", "brass"),
        (BEGINNING + RUN + "| id |\n|---|\n| a |\n", "a table of nothing"),
        (BEGINNING + RUN + "**bronze**\n\nnothing\n", "has no table"),
        (BEGINNING + RUN + BRONZE + "| a | 1 |\n", "rows of id, qty, note"),
        (BEGINNING + "```sh\nrm -r lake\n```\n", "rm -r lake"),
        (BEGINNING + "```toml\n```\n", "a block of toml"),
        ("# A\n```csv\nid\n```\n", "a block of csv"),
    ],
)
def test_a_page_that_cannot_be_checked_is_refused(page: str, message: str) -> None:
    with pytest.raises(GuideError, match=message):
        parse_sections(page)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (BRONZE + "| a | 2 | x |\n", "does not have"),
        (BRONZE + "| a | 1 | ∅ |\n", "does not have"),
        ("**bronze**: no rows\n", "also has"),
        (BRONZE + "| a | 1 | x |\n| b | 1 | x |\n", "does not have"),
        ("**bronze**\n| id | qty |\n|---|---|\n| a | 1 |\n", "does not show"),
        ("**bronze**: not there\n", "bronze"),
        ("**ledger**\n| status |\n|---|\n| accepted |\n", "does not show"),
        ("**change set 2**: no rows\n", "change set 2"),
        ("```text\nsomething else\n```\n", "something else"),
    ],
)
def test_a_wrong_example_fails(correct_example: Example, expected: str, message: str) -> None:
    (section,) = parse_sections(BEGINNING + RUN + expected)
    (part,) = section.parts
    (what,) = part.steps[0].checks
    with pytest.raises(AssertionError, match=message):
        correct_example.compare(part, what)


@pytest.fixture(scope="module")
def correct_example(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Example:
    """One row, as it is, in a ledger and in bronze."""
    right = BRONZE + "| a | 1 | x |\n"
    example = Example(parse_sections(BEGINNING + RUN + right)[0], tmp_path_factory.mktemp("guide"), spark)
    example.check()
    return example
