"""JSON loses nothing on its way in: no object of a line, and no digit of a number."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from pyspark.sql import Row, SparkSession

from lakehouse import landing, session, snapshot
from lakehouse.config import Table
from lakehouse.lake import Lake
from lakehouse.snapshot import KEY

TIME = datetime(2025, 1, 1, tzinfo=timezone.utc)
SCHEMA = "id STRING, price DECIMAL(38,4), note STRING"


def read(spark: SparkSession, folder: Path, text: str) -> list[Row]:
    file = folder / "items.json"
    file.write_text(text, encoding="utf-8")
    table = Table.model_validate({"file": "items.json", "format": "json", "schema": SCHEMA, "keys": ["id"]})
    landed = landing.land(Lake(str(folder / "lake")), "items", TIME, [file])
    return snapshot.read(session.isolated(spark, size=0), table, landed, "UTC", frozenset()).rows.collect()


@pytest.mark.parametrize("behind", ['{"id":"b","price":2,"note":"y"}', ' {"id":"b"}', "]", " text", ","])
def test_a_line_with_something_behind_its_object_is_malformed(spark: SparkSession, tmp_path: Path, behind: str) -> None:
    rows = read(spark, tmp_path, f'{{"id":"a","price":1,"note":"x"}}{behind}\n')

    assert [row[KEY] for row in rows] == ["unreadable"]


@pytest.mark.parametrize(
    "number", ["12345678901234567890.1234", "0.0001", "1.1000", "90071992547409.9301", "9007199254740993"]
)
@pytest.mark.parametrize("form", ["{}\n", "[{}]"], ids=["a line", "an array"])
def test_a_number_keeps_its_digits(spark: SparkSession, tmp_path: Path, number: str, form: str) -> None:
    text = form.replace("{}", f'{{"id":"a","price":{number},"note":{number}}}')

    (row,) = read(spark, tmp_path, text)

    assert row.price == Decimal(number)
    assert Decimal(row.note) == Decimal(number)
