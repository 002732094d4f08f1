"""Headers and rows that are longer than any should be are read in a time that grows with their length."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import pytest
from pyspark.sql import SparkSession

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.local import csv_file
from lakehouse.ingest.readers import csv_reader
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.storage import landing

LINE_CHARS = 1_000_000


def settings(**options: str) -> ReadSettings:
    table = Table.model_validate(
        {"file": "a.csv", "format": "csv", "schema": "id STRING, v INT", "keys": ["id"], "options": options}
    )
    return ReadSettings(cast(SparkSession, None), table, "UTC")


def broken_rows(file: Path) -> tuple[int, list[str]]:
    """Return how many rows can be split into fields, and the received fields of the others."""
    opened = csv_file.open_file(settings(), landing.inspect_file(file), file)
    return sum(batch.num_rows for batch in opened.read()), [row.received for row in opened.broken]


@pytest.mark.parametrize("rest", ["," * LINE_CHARS, ',"' * (LINE_CHARS // 2), ',"x"' * (LINE_CHARS // 4)], ids=len)
def test_a_row_of_a_megabyte_of_separators_goes_to_quarantine_at_once(tmp_path: Path, rest: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"id,v\na,1\nb{rest}\n")
    started = time.process_time()

    _, broken = broken_rows(file)

    assert len(broken) <= 1
    assert all(len(received) < 100 for received in broken)
    assert time.process_time() - started < 3


def test_fields_of_a_broken_row_are_split_as_before(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('id,v\na,1\n"b,""c""",2,3\nd\ne,,\n')

    assert broken_rows(file) == (
        1,
        ['{"id":"b,\\"c\\"","v":"2"}', '{"id":"d","v":null}', '{"id":"e","v":null}'],
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("," * 300_000 + "\n1,2\n", "has 300,001 columns"),
        (",".join(f"c{n}" for n in range(30_000)) + "\n", "has 30,000 columns"),
        ("," * 2_000_000, "the header has more than 1,048,576 characters"),
        ('"' + "x" * 2_000_000, "the header has more than 1,048,576 characters"),
    ],
    ids=["separators", "names", "no line end", "open quote"],
)
def test_a_header_of_more_columns_or_characters_than_any_is_refused_at_once(
    tmp_path: Path, text: str, found: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    started = time.process_time()

    with pytest.raises(DataRefused) as refused:
        csv_reader.locate_columns(settings(), file)

    assert found in refused.value.found
    assert time.process_time() - started < 3


def test_as_many_columns_as_may_be_are_found_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(",".join([*(f"c{n}" for n in range(100_000)), "ID", "v"]))
    started = time.process_time()

    _, positions = csv_reader.locate_columns(settings(maxColumns="200000"), file)

    assert positions == {"id": 100_000, "v": 100_001}
    assert time.process_time() - started < 3
