"""Test cases of models: a file is checked completely before a session starts, and rows are compared readably."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import ConfigError
from lakehouse.inspect.cases import Case, compare_rows, read_cases
from lakehouse.runner.context import open_run

REPOSITORY = Path(__file__).parents[3]
FILE = """
model: silver.items
cases:
  one:
    given: {bronze.items: [{id: a, day: 2025-01-01}]}
    expect: [{id: a, day: 2025-01-01}]
  none: {expect: []}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    table = {"file": "items.csv", "format": "csv", "schema": "id STRING, day DATE", "keys": ["id"]}
    document = {
        "name": "shop",
        "lake": str(tmp_path / "lake"),
        "source": {"type": "files", "path": str(tmp_path)},
        "tables": {"items": table},
        "silver": {"items": {"keys": ["id"]}},
        "gold": {"days": {}},
    }
    (tmp_path / "pipeline.json").write_text(json.dumps(document))
    for folder in ("silver", "gold", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "silver/items.sql").write_text("SELECT i.id, i.day FROM bronze.items AS i")
    (tmp_path / "gold/days.sql").write_text("SELECT i.day, COUNT(*) AS n FROM silver.items AS i GROUP BY i.day")
    return tmp_path


def cases(shop: Path, text: str, *names: str) -> list[Case]:
    (shop / "tests/items.yml").write_text(text)
    run = open_run(shop)
    return read_cases(run.pipeline, run.plans, names)


def test_a_file_has_cases_of_a_model(shop: Path) -> None:
    one, none = cases(shop, FILE)
    assert (one.name, one.model, one.only, one.newest_snapshot) == ("one", "silver.items", {}, None)
    assert one.given == {"bronze.items": ({"id": "a", "day": "2025-01-01"},)}  # a date stays text
    assert (none.given, none.expect) == ({}, ())


@pytest.mark.parametrize(
    ("name", "found"), [("silver.items", 2), ("items", 2), ("items.yml", 2), ("one", 1), ("none", 1)]
)
def test_cases_are_chosen_by_model_file_or_name(shop: Path, name: str, found: int) -> None:
    assert len(cases(shop, FILE, name)) == found


def test_a_name_of_no_case_is_refused(shop: Path) -> None:
    with pytest.raises(ConfigError, match='no case is of itemz; did you mean "items"'):
        cases(shop, FILE, "itemz")


def test_a_pipeline_without_tests_has_no_cases(shop: Path) -> None:
    run = open_run(shop)
    assert read_cases(run.pipeline, run.plans) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model: silver.items\ncases:\n  a: {expects: []}", "items.yml:3 cases.a.expects: unknown key; did you mean"),
        ("model: silver.items\ncases:\n  a: {given: {}}", "items.yml:3 cases.a: `expect` is missing"),
        ("model: silver.itens\ncases:\n  a: {expect: []}", 'no model silver.itens; did you mean "silver.items"?'),
        ("cases:\n  a: {expect: []}", "no model None"),
        ("model: silver.items", "no cases"),
        ("[]", "expected model, cases"),
        ("model: [silver.items]\ncases:\n  a: {expect: []}", "no model ['silver.items']"),
        ("model: silver.items\ncases:\n  a: {expect: {id: a}}", "cases.a.expect: expected a list of rows"),
        ("model: silver.items\ncases:\n  a: {expect: [1]}", "cases.a.expect: expected a list of rows"),
        (
            "model: silver.items\ncases:\n  a: {given: {bronze.item: []}, expect: []}",
            'cases.a.given.bronze.item: unknown key; did you mean "bronze.items"?',
        ),
        ("model: silver.items\ncases:\n  a: {expect: [], only: 3}", "cases.a.only: expected columns"),
        ("model: silver.items\ncases:\n  a: {expect: []}\n  a: {expect: []}", "items.yml:4"),
    ],
)
def test_a_fault_is_named_with_its_line(shop: Path, text: str, found: str) -> None:
    with pytest.raises(ConfigError) as raised:
        cases(shop, text)
    assert found in raised.value.found


def test_all_faults_are_reported_at_once(shop: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        cases(shop, "model: silver.items\ncases:\n  a: {}\n  b: {expect: 1}\n  c: {nope: 1, expect: []}")
    assert len(raised.value.found.splitlines()) == 3


@pytest.mark.parametrize("pipeline", ["loyalty", "tesouro"])
def test_the_shipped_pipelines_have_cases(pipeline: str) -> None:
    run = open_run(REPOSITORY / "conf" / pipeline)
    found = read_cases(run.pipeline, run.plans)
    assert len(found) >= 4
    assert {case.model.partition(".")[0] for case in found} == {"silver", "gold"}


# Comparison


def test_rows_with_one_key_differ_by_column() -> None:
    found = [{"k": 1, "a": 1, "b": "x"}, {"k": 2, "a": 1, "b": "x"}]
    wanted = [{"k": 2, "a": 1, "b": "x"}, {"k": 1, "a": 2, "b": None}, {"k": 3, "a": 1, "b": "x"}]

    assert compare_rows(found, wanted, ["k"]) == [
        {"kind": "differs", "key": {"k": 1}, "column": "a", "expected": 2, "found": 1},
        {"kind": "differs", "key": {"k": 1}, "column": "b", "expected": None, "found": "x"},
        {"kind": "missing", "key": None, "column": None, "expected": {"k": 3, "a": 1, "b": "x"}, "found": None},
    ]


def test_without_keys_rows_are_counted() -> None:
    assert [row["kind"] for row in compare_rows([{"a": 1}, {"a": 1}], [{"a": 1}, {"a": 2}], [])] == [
        "missing",
        "unexpected",
    ]


ROWS = st.lists(st.fixed_dictionaries({"k": st.integers(0, 3), "v": st.none() | st.integers(0, 2)}), max_size=6)


@given(ROWS, ROWS)
def test_no_difference_is_found_exactly_between_equal_multisets(left: list[Any], right: list[Any]) -> None:
    def ordered(rows: list[Any]) -> list[str]:
        return sorted(json.dumps(row, sort_keys=True) for row in rows)

    for keys in ([], ["k"]):
        assert (compare_rows(left, right, keys) == []) == (ordered(left) == ordered(right))
        assert compare_rows(left, left[::-1], keys) == []
