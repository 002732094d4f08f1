"""Tests reading landed JSON and Parquet: typed by the schema, broken rows recognized, nothing silently null."""

from __future__ import annotations

import json
from datetime import date, datetime, timezone
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.parsed_file import ParsedSnapshot, ReadSettings
from lakehouse.ingest.readers.snapshot_reader import KEY_STATE, PROBLEMS, RECEIVED
from lakehouse.spark import session
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

TIME = datetime(2025, 1, 1, tzinfo=timezone.utc)
SCHEMA = "id STRING, n INT, price DECIMAL(10,2), day DATE, tags ARRAY<INT>, at STRUCT<x: INT, y: STRING>"


class Reader:
    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder, self.lakes = session.isolated_session(spark, data_bytes=0), folder, count()

    def read(self, file: Path, kind: str, schema: str = SCHEMA, **settings: Any) -> ParsedSnapshot:
        table = Table.model_validate({"file": "*", "format": kind, "schema": schema, "keys": ["id"]} | settings)
        landed = landing.land_snapshot(Lake(str(self.folder / f"lake {next(self.lakes)}")), "items", TIME, [file])
        return snapshot_reader.read(ReadSettings(self.spark, table, "America/Sao_Paulo"), landed)

    def json(self, text: str, **settings: Any) -> ParsedSnapshot:
        file = self.folder / "items.json"
        file.write_text(text, encoding="utf-8")
        return self.read(file, "json", **settings)

    def parquet(self, rows: str, **settings: Any) -> ParsedSnapshot:
        """Items whose columns are these SQL expressions."""
        written = self.folder / "written"
        self.spark.sql(f"SELECT {rows}").coalesce(1).write.parquet(str(written))
        (part,) = written.glob("part-*.parquet")
        return self.read(part.rename(self.folder / "items.parquet"), "parquet", **settings)


@pytest.fixture
def reader(spark: SparkSession, tmp_path: Path) -> Reader:
    return Reader(spark, tmp_path)


def key_and_problems(row: Row) -> tuple[str, list[tuple[str | None, str | None]]]:
    return row[KEY_STATE], [(p.column, p.value) for p in row[PROBLEMS]]


GOOD = {"id": "a", "n": 1, "price": 1.10, "day": "2025-01-02", "tags": [1, 2], "at": {"x": 1, "y": "z"}}


@pytest.mark.parametrize("form", ["lines", "array", "pretty array with a BOM"])
def test_objects_on_lines_and_in_an_array_read_alike(reader: Reader, form: str) -> None:
    second = {"id": "b", "n": "7", "price": "2.5", "day": None, "tags": [], "at": {"x": None, "y": ""}}
    texts = {
        "lines": f"{json.dumps(GOOD)}\n\n{json.dumps(second)}\n",
        "array": json.dumps([GOOD, second]),
        "pretty array with a BOM": "\ufeff \n" + json.dumps([GOOD, second], indent=2),
    }
    rows = {row.id: row for row in reader.json(texts[form]).rows.collect()}

    assert [key_and_problems(row) for row in rows.values()] == [("read", [])] * 2
    assert (rows["a"].n, rows["a"].price, rows["a"].day) == (1, Decimal("1.10"), date(2025, 1, 2))
    assert (rows["a"].tags, rows["a"]["at"]) == ([1, 2], Row(x=1, y="z"))
    assert (rows["b"].n, rows["b"].price, rows["b"].day, rows["b"].tags) == (7, Decimal("2.50"), None, [])
    assert rows["b"]["at"] == Row(x=None, y="")


def test_a_value_that_does_not_fit_its_type_is_a_problem_and_never_silently_null(reader: Reader) -> None:
    wrong = [
        GOOD | {"id": "n", "n": 1.5},
        GOOD | {"id": "word", "n": "one"},
        GOOD | {"id": "price", "price": 1.105},
        GOOD | {"id": "tags", "tags": [1, "x"]},
        GOOD | {"id": "at", "at": {"x": "no", "y": "z"}},
        GOOD | {"id": None},
        {k: v for k, v in GOOD.items() if k != "n"} | {"id": "less"},
    ]
    text = "\n".join(map(json.dumps, wrong)) + '\nnot json\n{"id": "cut", "n": \n[1]\n'
    rows = reader.json(text).rows.collect()
    by_id = {row.id: key_and_problems(row) for row in rows if row.id}

    assert by_id["n"] == ("read", [("n", "1.5")])
    assert by_id["word"] == ("read", [("n", "one")])
    assert by_id["price"] == ("read", [("price", "1.105")])
    assert by_id["tags"] == ("read", [("tags", '[1, "x"]')])
    assert by_id["at"] == ("read", [("at", '{"x": "no", "y": "z"}')])
    assert by_id["less"] == ("read", [])
    nameless = sorted(key_and_problems(row) for row in rows if not row.id)
    assert [state for state, _ in nameless] == ["null", "unreadable", "unreadable", "unreadable"]
    assert {problems[0][1] for state, problems in nameless if state == "unreadable"} == {
        "not json",
        '{"id": "cut", "n": ',
        "[1]",
    }


def test_members_are_found_in_any_case_and_unknown_ones_are_reported(reader: Reader) -> None:
    read = reader.json('{"ID": "a", "N": 1, "extra": 2}\n{"id": "b", "n": null}\n', schema="id STRING, n INT")

    assert sorted((r.id, r.n) for r in read.rows.collect()) == [("a", 1), ("b", None)]
    assert read.unknown_columns == ("extra",)


NAMED: dict[str, Any] = {"schema": "id STRING, n INT", "names": {"id": "Tipo Titulo", "n": "Preço, R$"}}


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_columns_are_found_by_the_names_that_the_files_have(reader: Reader, kind: str) -> None:
    if kind == "csv":
        file = reader.folder / "items.csv"
        file.write_text('extra,"PREÇO, r$",Tipo Titulo\n1,5,a\n1,x,b\n', encoding="utf-8")
        read = reader.read(file, "csv", **NAMED)
    elif kind == "json":
        read = reader.json(
            '{"tipo titulo": "a", "Preço, R$": 5, "extra": 1}\n{"Tipo Titulo": "b", "Preço, R$": "x"}\n', **NAMED
        )
    else:
        read = reader.parquet("explode(array('5', 'x')) AS `Preço, R$`, 1 AS extra, 'a' AS `Tipo Titulo`", **NAMED)
    good, bad = sorted(read.rows.collect(), key=lambda row: len(row[PROBLEMS]))

    assert (good.id, good.n, key_and_problems(good)) == ("a", 5, ("read", []))
    assert key_and_problems(bad) == ("read", [("n", "x")])
    assert "Tipo Titulo" in bad[RECEIVED]
    assert (read.unknown_columns, read.missing_columns) == (("extra",), frozenset())


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_a_missing_column_is_reported_by_its_name_in_the_files(reader: Reader, kind: str) -> None:
    file = reader.folder / "items.csv"
    file.write_text("n,Tipo Titulo\n1,a\n", encoding="utf-8")
    with pytest.raises(DataRefused, match="Preço, R") as refused:
        if kind == "csv":
            reader.read(file, "csv", **NAMED)
        elif kind == "json":
            reader.json('{"n": 1, "Tipo Titulo": "a"}', **NAMED)
        else:
            reader.parquet("1 AS n, 'a' AS `Tipo Titulo`", **NAMED)
    assert "`names`" in (refused.value.next_step or "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"id": "a", "n": 1}, {"id": "b"', "not a complete JSON array"),
        ('{"id": "a"}\n', "no object of items.json has n"),
    ],
)
def test_a_cut_array_and_a_member_that_no_object_has_are_refused(reader: Reader, text: str, reason: str) -> None:
    with pytest.raises(DataRefused) as refused:
        reader.json(text, schema="id STRING, n INT")
    assert reason in refused.value.found


def test_parquet_columns_are_read_if_nothing_is_lost(reader: Reader) -> None:
    read = reader.parquet(
        "'a' AS ID, 5L AS n, CAST(1.1 AS DOUBLE) AS price, DATE'2025-01-02' AS day, array(1) AS tags,"
        " named_struct('x', 1, 'y', 'z') AS at, 1 AS extra",
        schema=SCHEMA.replace("DECIMAL(10,2)", "DOUBLE"),
    )
    (row,) = read.rows.collect()

    assert key_and_problems(row) == ("read", [])
    assert (row.id, row.n, row.price, row.day, row.tags, row["at"].y) == ("a", 5, 1.1, date(2025, 1, 2), [1], "z")
    assert read.unknown_columns == ("extra",)


@pytest.mark.parametrize(
    ("sql", "schema", "value", "problem"),
    [
        ("5000000000L", "INT", None, [("v", "5000000000")]),
        ("CAST(1.5 AS DOUBLE)", "INT", None, [("v", "1.5")]),
        ("CAST(7 AS TINYINT)", "BIGINT", 7, []),
        ("CAST('NaN' AS FLOAT)", "DOUBLE", float("nan"), []),
        ("CAST(1.25 AS DECIMAL(5,2))", "DECIMAL(10,1)", None, [("v", "1.25")]),
        ("'12'", "INT", 12, []),
        ("'x'", "INT", None, [("v", "x")]),
        ("TIMESTAMP_NTZ'2025-01-01 00:00:00'", "TIMESTAMP", datetime(2025, 1, 1, 3), []),
    ],
)
def test_a_parquet_column_of_another_type(reader: Reader, sql: str, schema: str, value: Any, problem: Any) -> None:
    read = reader.parquet(f"'a' AS id, {sql} AS v", schema=f"id STRING, v {schema}")
    (row,) = read.rows.selectExpr("*", "CAST(v AS STRING) AS shown").collect()

    assert key_and_problems(row) == ("read", problem)
    expected = value.strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else value
    assert row.shown == (None if value is None else str(expected).replace("nan", "NaN"))


@pytest.mark.parametrize(("sql", "reason"), [("true AS v", "the column is BOOLEAN"), ("1 AS w", "no column v")])
def test_a_parquet_column_that_cannot_become_the_declared_type_is_refused(
    reader: Reader, sql: str, reason: str
) -> None:
    with pytest.raises(DataRefused) as refused:
        reader.parquet(f"'a' AS id, {sql}", schema="id STRING, v DATE")
    assert reason in refused.value.found


def test_a_cut_parquet_file_is_refused(reader: Reader, tmp_path: Path) -> None:
    reader.parquet("'a' AS id, 1 AS n", schema="id STRING, n INT")
    file = tmp_path / "items.parquet"
    file.write_bytes(file.read_bytes()[:-20])

    with pytest.raises(DataRefused, match="cannot be read"):
        reader.read(file, "parquet", "id STRING, n INT")
