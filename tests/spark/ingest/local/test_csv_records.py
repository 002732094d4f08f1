"""The driver's CSV reader: records that have another number of fields than the header."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lakehouse.ingest.local.csv_file import _CsvReader
from lakehouse.ingest.local.local_file import BrokenRow
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.storage.landing import LandedFile


@pytest.mark.parametrize(("quote", "field"), [("", '"1'), ('"', "1"), ("'", '"1')])
def test_a_record_of_another_length_is_shown_by_its_fields_whatever_the_quote_is(
    tmp_path: Path, quote: str, field: str
) -> None:
    text = '"1,2,3' if quote != '"' else '"1",2,3'
    path = tmp_path / "t.csv"
    path.write_text(f"a,b\n{text}\nx,y\n", encoding="utf-8")
    file = LandedFile("t.csv", path.stat().st_size, "0", "0", has_quote=True, is_utf8=True)
    broken: list[BrokenRow] = []

    reader = _CsvReader(Dialect.from_options({"quote": quote}), file, path, ["a", "b"], [(), ()], {})
    rows = reader.read([0, 1], broken)

    assert [batch.to_pydict() for batch in rows if batch.num_rows] == [{"c0": ["x"], "c1": ["y"]}]
    assert [json.loads(row.received) for row in broken] == [{"a": field, "b": "2"}]
