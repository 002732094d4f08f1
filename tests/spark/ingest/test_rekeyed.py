"""Deleted rows that are back under another key are counted by hashes of their content. No JVM."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lakehouse.config import Table
from lakehouse.ingest.comparison import Comparison
from lakehouse.ingest.rekeyed import compared_columns, count_pairs, rekeyed_text


@pytest.mark.parametrize(
    ("deleted", "inserted", "count"),
    [
        ([], [(1,)], 0),
        ([(1,)], [], 0),
        ([(1,), (2,)], [(2,), (3,)], 1),
        ([(1,), (1,), (1,)], [(1,), (1,)], 2),  # each inserted row is used once
        ([(None,)], [(None,)], 0),  # rows without a value are equal to nothing
        ([(1, 7, 8)], [(2, 7, 9)], 1),  # equal without the first column
        ([(1, 7, 8), (1, 7, 8)], [(1, 7, 8), (2, 7, 9)], 2),
        ([(1, 7, 8)], [(2, 8, 7)], 0),  # the hashes are of different columns
    ],
)
def test_pairs_are_counted_once(deleted: list[Any], inserted: list[Any], count: int) -> None:
    assert count_pairs(deleted, inserted) == count


def table(**settings: Any) -> Table:
    schema = "id STRING, qty INT, note STRING, seen TIMESTAMP, email STRING, phone STRING"
    return Table.model_validate({"file": "t.csv", "format": "csv", "schema": schema, "keys": ["id"]} | settings)


def test_keys_and_columns_that_say_nothing_are_not_compared() -> None:
    settings = {"ignore": ["qty"], "updated_at": "seen", "pii": {"email": "mask", "phone": "drop"}}

    assert compared_columns(table()) == ["qty", "note", "seen", "email", "phone"]
    assert compared_columns(table(**settings)) == ["note"]


def text_of(
    deleted: int, inserted: int, rows: list[tuple[str, tuple[int | None, ...]]]
) -> tuple[str | None, list[Any]]:
    asked: list[Any] = []

    def row_signatures(column_sets: list[list[str]], one_in: int) -> list[Any]:
        asked.append((len(column_sets), one_in))
        return rows

    comparison = SimpleNamespace(
        counts=SimpleNamespace(deleted=deleted, inserted=inserted),
        context=SimpleNamespace(config=table()),
        row_signatures=row_signatures,
    )
    return rekeyed_text(cast(Comparison, comparison), is_held=False), asked


def test_the_text_has_the_numbers_and_few_pairs_are_not_worth_one() -> None:
    pairs = [row for number in range(17) for row in (("D", (number,)), ("I", (number,)))]
    others = [("D", (number,)) for number in range(100, 103)]

    assert text_of(20, 17, pairs + others)[0] == "17 of 20 deleted rows are back under another id"
    assert text_of(1, 1, pairs[:2])[0] == "1 of 1 deleted row is back under another id"
    many = [("D", (number,)) for number in range(100, 200)]
    assert text_of(101, 1, [*pairs[:2], *many])[0] is None


def test_nothing_is_asked_without_both_and_of_many_rows_only_some_are() -> None:
    assert text_of(5, 0, []) == (None, [])
    assert text_of(0, 5, []) == (None, [])
    assert text_of(10_000, 1, []) == (None, [(6, 1)])  # all five columns, and each four of them
    assert text_of(10_001, 1, [])[1] == text_of(1, 20_000, [])[1] == [(1, 2)]
    assert text_of(10_001, 9, [("D", (2,)), ("I", (2,))])[0] == (
        "1 of 1 deleted row (a sample of 10001) is back under another id"
    )
