"""Tests that reading JSON loses nothing: no object of a line, and no digit of a number."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from pyspark.sql import Row, SparkSession

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.ingest.readers.snapshot_reader import KEY_STATE, PROBLEMS
from lakehouse.spark import session
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

TIME = datetime(2025, 1, 1, tzinfo=timezone.utc)
SCHEMA = "id STRING, price DECIMAL(38,4), note STRING"


def read(spark: SparkSession, folder: Path, text: str, schema: str = SCHEMA, **options: str) -> list[Row]:
    file = folder / "items.json"
    file.write_text(text, encoding="utf-8", newline="")
    settings = {"file": "items.json", "format": "json", "schema": schema, "keys": ["id"], "options": options}
    table = Table.model_validate(settings)
    landed = landing.land_snapshot(Lake(str(folder / "lake")), "items", TIME, [file])
    own_session = session.isolated_session(spark, data_bytes=0)
    return snapshot_reader.read(ReadSettings(own_session, table, "UTC"), landed).rows.collect()


@pytest.mark.parametrize("behind", ['{"id":"b","price":2,"note":"y"}', ' {"id":"b"}', "]", " text", ","])
def test_a_line_with_text_after_its_object_is_malformed(spark: SparkSession, tmp_path: Path, behind: str) -> None:
    rows = read(spark, tmp_path, f'{{"id":"a","price":1,"note":"x"}}{behind}\n')

    assert [row[KEY_STATE] for row in rows] == ["unreadable"]


@pytest.mark.parametrize(
    "number", ["12345678901234567890.1234", "0.0001", "1.1000", "90071992547409.9301", "9007199254740993"]
)
@pytest.mark.parametrize("form", ["{}\n", "[{}]"], ids=["a line", "an array"])
def test_a_number_keeps_its_digits(spark: SparkSession, tmp_path: Path, number: str, form: str) -> None:
    text = form.replace("{}", f'{{"id":"a","price":{number},"note":{number}}}')

    (row,) = read(spark, tmp_path, text)

    assert row.price == Decimal(number)
    assert Decimal(row.note) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    [
        '{"ID":"a","id":"b","price":1,"note":"x"}',
        '{"id":"a","price":1,"note":"x","other":1,"OTHER":1}',
        '{"id":"a","id":"a","price":1,"note":"x"}',
        '{"id":"\\ud800","price":1,"note":"x"}',
        '{"id":"a","price":1,"note":"x"',
        '{"id":"a" "price":1}',
        '"id"',
        "\t",
    ],
)
def test_an_object_that_can_be_read_in_two_ways_or_none_is_malformed(
    spark: SparkSession, tmp_path: Path, text: str
) -> None:
    good = '{"id":"good","price":1,"note":"x"}'

    rows = read(spark, tmp_path, f"{good}\n{text}\n{good}\n")

    assert sorted((row.id or "", row[KEY_STATE]) for row in rows) == [
        ("", "unreadable"),
        ("good", "read"),
        ("good", "read"),
    ]


PRETTY = '{\n  "id": "a",\n  "price": 1.10,\n  "note": {\n    "x": [\n      {"y": 1}\n    ]\n  }\n}\n'


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("times", [1, 2])
def test_objects_that_span_lines_are_rows(spark: SparkSession, tmp_path: Path, times: int, line_end: str) -> None:
    rows = read(spark, tmp_path, "\ufeff" + PRETTY.replace("\n", line_end) * times)

    assert [(row.id, str(row.price), row[KEY_STATE]) for row in rows] == [("a", "1.1000", "read")] * times


@pytest.mark.parametrize("text", [PRETTY[:-3], PRETTY + "{\n", PRETTY + "more\n", PRETTY.replace('"a",', '"a"')])
def test_an_incomplete_object_that_spans_lines_is_refused(spark: SparkSession, tmp_path: Path, text: str) -> None:
    with pytest.raises(DataRefused, match="not a complete JSON array, nor complete objects"):
        read(spark, tmp_path, text)


@pytest.mark.parametrize("first", ['{"id":"x","price":', '{"id":"x","pri\nnonsense', "nonsense"])
def test_a_bad_first_line_is_one_bad_line(spark: SparkSession, tmp_path: Path, first: str) -> None:
    rows = read(spark, tmp_path, first + '\n{"id":"a","price":1,"note":null}\n')

    assert [row[KEY_STATE] for row in rows] == ["unreadable"] * (1 + first.count("\n")) + ["read"]


def test_a_locale_is_for_numbers_in_quotes(spark: SparkSession, tmp_path: Path) -> None:
    text = '{"id":"a","price":1.234,"note":1.5}\n{"id":"b","price":"1.234","note":"1,5"}\n{"id":"c","price":"1.5"}\n'
    a, b, c = read(spark, tmp_path, text, locale="pt-BR")

    assert (a.price, b.price, c.price) == (Decimal("1.234"), Decimal(1234), None)
    assert (a.note, b.note) == ("1.5", "1,5")
    assert [p.value for p in c[PROBLEMS]] == ["1.5"]


def test_text_is_kept_unchanged_whatever_its_form(spark: SparkSession, tmp_path: Path) -> None:
    long = "9" * 5000
    text = f'{{"id":00123}}\n{{"id":123,"price":"12.50","note":{long}}}\n{{"id":"00123","price":1e2,"note":true}}\n'
    bad, number, word = read(spark, tmp_path, text)

    assert bad[KEY_STATE] == "unreadable"  # no JSON number
    assert (number.id, number.price, number.note) == ("123", Decimal("12.50"), long)
    assert (word.id, word.price, word.note) == ("00123", Decimal(100), "true")


def test_dates_as_milliseconds_come_as_numbers_and_as_text(spark: SparkSession, tmp_path: Path) -> None:
    text = '{"id":"a","price":1420070400000,"note":"1420070400000"}\n{"id":"b","price":"x","note":"2015-01-01"}\n'
    rows = read(spark, tmp_path, text, schema="id STRING, price DATE, note DATE")

    assert [(row.price, row.note) for row in rows] == [(date(2015, 1, 1), date(2015, 1, 1)), (None, date(2015, 1, 1))]
    assert [[p.column for p in row[PROBLEMS]] for row in rows] == [[], ["price"]]


NESTED: dict[str, tuple[str, dict[str, str | None]]] = {
    "decimals": ("ARRAY<DECIMAL(10,1)>", {'[1.5, null, "2.50"]': "[1.5,null,2.5]", "[1.25]": None, '["x"]': None}),
    "structs": (
        "STRUCT<x: INT, day: DATE, in: STRUCT<at: TIMESTAMP>>",
        {
            '{"X":"1","day":1420070400000,"in":{"at":"2015-01-01T00:00Z","more":1}}': (
                '{"x":1,"day":"2015-01-01","in":{"at":"2015-01-01T00:00:00.000Z"}}'
            ),
            '{"x":1,"in":null}': '{"x":1}',
            **dict.fromkeys(
                [
                    '{"x":1,"X":2}',
                    '{"day":"2015-01-01T00:00:00"}',
                    '{"in":{"at":"12:30"}}',
                    '{"in":[]}',
                    '{"x":3000000000}',
                    "[]",
                    '"x"',
                ]
            ),
        },
    ),
    "floats": ("ARRAY<STRUCT<x: DOUBLE>>", {'[{"x":1e3}, null, {}]': '[{"x":1000.0},null,{}]', '[{"x":1e400}]': None}),
}


@pytest.mark.parametrize(("kind", "expected"), NESTED.values(), ids=NESTED)
def test_a_nested_value_is_read_exactly_or_malformed(
    spark: SparkSession, tmp_path: Path, kind: str, expected: dict[str, str | None]
) -> None:
    text = "".join(f'{{"id":"{n}","v":{value}}}\n' for n, value in enumerate(expected))
    rows = read(spark, tmp_path, text, schema=f"id STRING, v {kind}")

    parsed = spark.createDataFrame(
        rows, f"id STRING, v {kind}, p ARRAY<STRUCT<a: STRING, b: STRING, c: STRING>>, r STRING, k STRING"
    )
    shown = {row.id: row.v for row in parsed.selectExpr("id", "to_json(v) AS v").collect()}
    assert shown == {str(n): value for n, value in enumerate(expected.values())}
    assert [bool(row[PROBLEMS]) for row in rows] == [value is None for value in expected.values()]


def test_text_in_an_array_stays_as_written(spark: SparkSession, tmp_path: Path) -> None:
    text = '{"id":"a","v":[1.10, 12345678901234567890.1, {"a": 1.10}, "\\u00e3", null]}\n'
    (row,) = read(spark, tmp_path, text, schema="id STRING, v ARRAY<STRING>")

    assert row.v == ["1.10", "12345678901234567890.1", '{"a": 1.10}', "\u00e3", None]
