"""Which expressions DuckDB computes for Spark, and which are left to Spark."""

from __future__ import annotations

import duckdb
import pytest
import sqlglot

from lakehouse.models.sql.trace.translate import NotInDuckdbError, Scope, Typed, translate

KINDS = {"i": "INTEGER", "s": "VARCHAR", "d": "DATE", "n": "DECIMAL(9,2)", "f": "DOUBLE", "b": "BOOLEAN"}
COLUMNS = {name: Typed(f'"{name}"', kind) for name, kind in KINDS.items()}
SCOPE = Scope({"t": ("t", COLUMNS)}, {"business_timezone": "UTC"})


def translated(text: str) -> str:
    return translate(sqlglot.parse_one(text, read="spark"), SCOPE).sql


@pytest.mark.parametrize(
    "text",
    [
        "t.s = t.i",  # Spark casts the text
        "t.s > t.d",
        "t.f + 1",
        "t.i / 2",
        "t.n * 2",
        "t.i % 0",
        "t.s LIKE 'a%'",
        "initcap(t.s)",
        "regexp_replace(t.s, '(a)', '$1')",
        "regexp_replace(t.s, 'a*', '')",
        "t.s RLIKE '(?=a)'",
        "t.s RLIKE 'a{2}'",
        "t.s RLIKE t.s",
        "date_add(t.d, t.i)",
        "CAST(t.s AS DATE)",
        "SUM(t.n)",
        "MAX(t.f)",
        "FIRST(t.i) OVER (PARTITION BY t.s ORDER BY t.i)",
        "t.unknown",
        "CASE WHEN t.b THEN t.s ELSE t.i END",
    ],
)
def test_what_may_differ_is_left_to_spark(text: str) -> None:
    with pytest.raises(NotInDuckdbError):
        translated(text)


def test_a_text_that_is_not_plain_ascii_stops_the_query() -> None:
    rows = duckdb.sql("SELECT * FROM (VALUES (' ab '), (NULL)) t(s)")
    assert duckdb.sql(f"SELECT {translated('upper(trim(t.s))')} FROM rows AS t").fetchall() == [("AB",), (None,)]
    assert rows is not None
    for odd in ("é", "a\nb", "\u00a0"):
        with pytest.raises(duckdb.Error, match="a text for Spark"):
            duckdb.sql(f"SELECT {translated('upper(t.s)')} FROM (VALUES ('{odd}')) t(s)").fetchall()
