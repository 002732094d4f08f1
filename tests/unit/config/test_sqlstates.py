"""Tests the meaning of SQLSTATE codes: every class of PostgreSQL has one, and the guide has the same table."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import psycopg.errors
import pytest

from lakehouse.config import sqlstates
from lakehouse.errors import ExitCode

GUIDE = Path(__file__).parents[3] / "docs/guide/publish.md"


def test_every_class_of_postgresql_has_an_exit_code_of_2_3_or_5() -> None:
    psycopg_codes = psycopg.errors._sqlcodes  # by code and by name
    known = {code[:2] for code, error in psycopg_codes.items() if error.sqlstate == code}
    assert len(known) > 40
    assert known <= set(sqlstates.CLASSES)
    rules = [meaning for _, meaning in (*sqlstates.CLASSES.values(), *sqlstates.CODES.values())]
    assert {rule.exit_code for rule in rules} == {ExitCode.USAGE, ExitCode.INFRASTRUCTURE, ExitCode.REFUSED}
    assert all(rule.expected and rule.next_step for rule in rules)


def test_a_code_in_the_table_has_another_exit_code_or_advice_than_its_class() -> None:
    for code, (_, meaning) in sqlstates.CODES.items():
        assert meaning != sqlstates.CLASSES[code[:2]][1] or code.startswith("HV"), code


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("25006", 2), ("25P03", 3), ("22P05", 5), ("54000", 5), ("54011", 2), ("53300", 3), ("57014", 3), ("ZZ001", 5)],
)
def test_a_code_comes_before_its_class_and_an_unknown_one_is_of_a_trigger(code: str, exit_code: int) -> None:
    assert sqlstates.meaning(code).exit_code == exit_code


def test_the_guide_has_the_same_table() -> None:
    rows = dict(re.findall(r"^\| `(\w{2,5})` \|.*\| (\d) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
    rules = {**sqlstates.CLASSES, **sqlstates.CODES}
    assert rows == {code: str(int(meaning.exit_code)) for code, (_, meaning) in rules.items()}
