"""The net of the change sets between two times is the difference of the rows at these times. No JVM."""

from __future__ import annotations

import itertools
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import ConfigError
from lakehouse.inspect.between import Interval, diff_table
from lakehouse.lake import change_sets, small_tables
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.lake.table_ref import TableRef
from lakehouse.storage.paths import Lake

NO_SESSION = cast(SparkSession, None)
START = datetime(2025, 1, 1, tzinfo=timezone.utc)
Rows = dict[tuple[str, int], tuple[float | None, str | None]]
NAMES = ("id", "part", "qty", "note")


def table(folder: Path, **more: Any) -> TableRef:
    schema = "id STRING, part INT, qty DOUBLE, note STRING"
    config = {"file": "t.csv", "format": "csv", "schema": schema, "keys": ["part", "id"]} | more
    return TableRef(NO_SESSION, Lake.from_root(str(folder)), "t", Table.model_validate(config))


def changed(before: tuple[Any, ...], after: tuple[Any, ...]) -> list[str]:
    """Return the columns in which the content of two rows differs; NaN equals NaN."""
    return [name for name, b, a in zip(NAMES[2:], before, after, strict=True) if repr(b) != repr(a)]


def write(ref: TableRef, contents: list[Rows], ignored: bool = False) -> LedgerHistory:
    """Write the change sets of these contents, one a day, and return the ledger."""
    fields = T.StructType([*ref.schema, *change_sets.FIELDS])
    entries, state = list[LedgerEntry](), Rows()
    for number, wanted in enumerate(contents, start=1):
        time, rows, after = START + timedelta(days=number), list[dict[str, Any]](), dict(state)
        for key in sorted(state.keys() | wanted.keys()):
            if key not in wanted:
                operation, values, names = "D", after.pop(key), None
            elif key not in state:
                operation, values, names = "I", wanted[key], None
            else:
                operation, values, names = "U", wanted[key], changed(state[key], wanted[key])
                if not [name for name in names if name != "note" or not ignored]:
                    continue  # a row is refreshed with its next update
            if operation != "D":
                after[key] = values
            cdc = {"_cdc_operation": operation, "_cdc_timestamp": time, "_cdc_sequence": number, "_cdc_changed": names}
            rows.append(dict(zip(NAMES, (*key, *values), strict=True)) | cdc)
        state = after
        contents[number - 1] = state
        path = ref.lake.change_set_path("t", number, time)
        batch = pa.RecordBatch.from_pylist(rows, small_tables.arrow_schema(fields))
        change_sets.write_batches([batch], fields, ref.lake.path(path))
        kind = "full-load" if number == 1 else "cdc"
        entries.append(LedgerEntry("t", number, time, "", "accepted", kind=kind, path=path, inserted=len(rows)))
    return LedgerHistory(entries)


def check(document: dict[str, Any], before: Rows, after: Rows, ignored: bool) -> None:
    both = before.keys() & after.keys()
    updates = {key: names for key in both if (names := changed(before[key], after[key]))}
    if ignored:
        updates = {key: names for key, names in updates.items() if "qty" in names}
    assert document["counts"] == {
        "rows_read": len(after),
        "inserted": len(after.keys() - before.keys()),
        "updated": len(updates),
        "deleted": len(before.keys() - after.keys()),
        "unchanged": len(both) - len(updates),
        "quarantined": 0,
        "duplicates": 0,
    }
    assert document["rows_before"] == len(before)
    assert document["columns"] == {
        name: count for name in NAMES[2:] if (count := sum(name in names for names in updates.values()))
    }
    samples = document["samples"]
    for kind, keys in (("inserted", after.keys() - before.keys()), ("deleted", before.keys() - after.keys())):
        found = [(row["id"], row["part"]) for row in samples[kind]]
        assert found == sorted(keys, key=lambda key: (key[1], key[0]))
    found = {(row["key"]["id"], row["key"]["part"]): list(row["changed"]) for row in samples["updated"]}
    assert found == updates


KEYS = st.tuples(st.sampled_from("abc"), st.integers(1, 2))
VALUES = st.tuples(st.sampled_from([None, 1.5, 0.0, float("nan")]), st.sampled_from([None, "", "x"]))
CONTENTS = st.lists(st.dictionaries(KEYS, VALUES), min_size=1, max_size=4)


@settings(max_examples=10)
@given(contents=CONTENTS, ignored=st.booleans(), scd=st.sampled_from([1, 2]))
def test_a_key_that_is_changed_and_changed_back_is_unchanged(contents: list[Rows], ignored: bool, scd: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ref = table(Path(folder), scd=scd, **({"ignore": ["note"]} if ignored else {}))
        history = write(ref, contents, ignored)
        for start, end in itertools.combinations(range(len(contents) + 1), 2):
            times = Interval(START + timedelta(days=start, hours=1), START + timedelta(days=end, hours=1))
            document = diff_table(ref, history, times, samples=99)
            check(document, contents[start - 1] if start else {}, contents[end - 1], ignored)


def test_samples_are_limited_and_show_both_sides(tmp_path: Path) -> None:
    ref = table(tmp_path)
    first: Rows = {("a", 1): (1.0, "x"), ("b", 1): (1.0, "x")}
    history = write(ref, [first, {("a", 1): (2.0, None), ("b", 1): (1.0, "y")}])
    times = Interval(START + timedelta(days=1), START + timedelta(days=2))

    assert diff_table(ref, history, times, samples=0)["samples"] == {"inserted": [], "updated": [], "deleted": []}
    assert diff_table(ref, history, times, samples=1)["samples"]["updated"] == [
        {
            "key": {"part": 1, "id": "a"},
            "changed": {"qty": {"before": 1.0, "after": 2.0}, "note": {"before": "x", "after": None}},
        }
    ]


def test_the_older_time_comes_first() -> None:
    assert Interval.from_texts("20250101_000000", "2025-01-01T00:00:01Z").end.second == 1
    with pytest.raises(ConfigError, match="--from 20250101_000000 is not before --to 2025-01-01"):
        Interval.from_texts("20250101_000000", "2025-01-01")
