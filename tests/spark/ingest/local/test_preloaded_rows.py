"""Snapshots that are read together have the rows, faults and changes that each has by itself; no session is needed."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest import local
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake.cdc import END_AT
from lakehouse.lake.small_tables import arrow_schema
from lakehouse.schema.table_schema import stored_schema
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)
SCHEMA = "id INT, v STRING, w DECIMAL(6,2), x DOUBLE, at TIMESTAMP, day DATE, b BINARY, f FLOAT"
TIMES = '"at": "2025-01-01T10:00:00Z", "day": "2025-01-01"'
GOOD = '{"id": %d, "v": "%s", "w": "%d.50", "x": 1e3, ' + TIMES + ', "b": "z", "f": 0.1}'
ODD = ['{"id": 3, "v": "a", "w": "x"}', "no object", '{"id": null}', "", '{"id": 4, "v": null}', '{"id": 4, "v": null}']


def snapshots(folder: Path, rng: random.Random) -> list[landing.LandedSnapshot]:
    landed = []
    for number in range(12):
        lines = [GOOD % (key, rng.choice("ab"), rng.randint(0, 1)) for key in range(8) if rng.random() < 0.7]
        lines += rng.sample(ODD, rng.randint(1, 3)) if rng.random() < 0.4 else []
        paths = []
        for name, part in (("a.json", lines[:4]), ("b.json", lines[4:])):
            path = folder / name
            path.write_bytes(b"[1, 2" if number == 5 and name == "b.json" else "\n".join(part).encode())
            paths.append(path)
        landed.append(landing.land_snapshot(Lake(str(folder / "lake")), "items", FIRST + timedelta(number), paths))
    return landed


def result(found: local.LocalRows | None, time: datetime) -> Any:
    assert found is not None
    changes = found.change_set(2, time).read_all()
    rows = sorted(map(str, changes.to_pylist()))
    columns = (found.unknown_columns, found.missing_columns, found.record_count)
    return found.counts, rows, changes.schema, sorted(map(str, found.quarantine_rows)), columns


def test_snapshots_that_are_read_together_have_the_changes_of_each_by_itself(
    tmp_path: Path,
) -> None:
    document = {"file": "*.json", "format": "json", "schema": SCHEMA, "keys": ["id"], "duplicates": "quarantine"}
    config = Table.model_validate(document)
    landed = snapshots(tmp_path, random.Random(3))
    settings = ReadSettings(None, config, "UTC", frozenset(stored_schema(config).names))  # type: ignore[arg-type]
    state = pa.Table.from_pylist([], arrow_schema(stored_schema(config)))
    database, alone = (local.open_database(tmp_path / name, 1, "UTC") for name in ("together", "alone"))
    preloaded = local.PreloadedRows(database, settings, landed)

    taken = 0
    for snapshot in landed:
        together = preloaded.find(settings, snapshot)
        if snapshot is landed[5]:
            assert together is None
            with pytest.raises(DataRefused):
                local.compare_in_driver(settings, snapshot, state, database, None, preloaded)
            continue
        expected = result(local.compare_in_driver(settings, snapshot, state, alone), snapshot.time)
        assert together is not None
        taken += together.row_count
        found = local.compare_in_driver(settings, snapshot, state, database, None, preloaded)
        assert result(found, snapshot.time) == expected
    assert taken > 50

    other = ReadSettings(None, config, "UTC")  # type: ignore[arg-type]
    assert preloaded.find(other, landed[0]) is None, "a column that may be missing is no more"
    database.close()
    alone.close()


ITEM = '{"id": %d, "k": "%s", "v": %s, "x": %s, "at": "2025-01-0%dT10:00:00Z", "w": "%d.50"}'
ITEMS = "id INT, k STRING, v STRING, x DOUBLE, at TIMESTAMP, w DECIMAL(6,2)"


def deliver(folder: Path, count: int, rng: random.Random) -> list[landing.LandedSnapshot]:
    """Land snapshots of few rows, some of which are bad, empty or not unique, or have another form of zero."""
    landed, rows = [], {key: ITEM % (key, "a", '"x"', "1.0", 1, 0) for key in range(6)}
    for number in range(count):
        for key in rng.sample(range(8), 2):
            values = (rng.choice(['"x"', '"y"', "null"]), rng.choice(["0.0", "1.0", "null", '"NaN"']))
            rows[key] = ITEM % (key, rng.choice("ab"), *values, rng.randint(1, 2), rng.randint(0, 1))
        rows.pop(rng.randrange(8), None)
        texts, odd = [*rows.values()], rng.random()
        texts += [texts[0]] if odd < 0.1 else ['{"id": 9, "k": "a", "w": "z"}'] if odd < 0.2 else []
        texts = [] if 0.2 < odd < 0.25 else [text.replace("0.0", "-0.0") for text in texts] if odd > 0.9 else texts
        path = folder / "items.json"
        path.write_text(f"[{','.join(texts)}]" if odd < 0.6 else "\n".join([*texts, ""]))
        time = FIRST + timedelta(hours=number)
        landed.append(landing.land_snapshot(Lake(str(folder / "lake")), "items", time, [path]))
    return landed


def others(found: local.LocalRows | None) -> Any:
    """Return what few snapshots need."""
    assert found is not None
    keys = pa.table({key: pa.array([1, 2, 3] if key == "id" else ["a", "a", "b"]) for key in found.table.keys})
    keys = keys.cast(
        pa.schema([pa.field(name, pa.int32() if name == "id" else pa.string()) for name in keys.schema.names])
    )
    before = sorted(map(str, found.rows_before(keys).to_pylist()))
    shares = [found.share_of_equal_values(name) for name in found.schema.names]
    return found.state_count, shares, before, sorted(map(str, found.row_signatures([["v", "x", "w"], ["w"]], 1)))


@pytest.mark.parametrize(
    ("settings", "is_chained"),
    [
        ({}, True),
        ({"keys": ["id", "k"]}, True),
        ({"scd": 2}, True),
        ({"ignore": ["v"]}, False),
        ({"slice_by": ["k"]}, False),
    ],
)
def test_snapshots_that_are_compared_together_have_the_changes_of_each_by_itself(
    tmp_path: Path, settings: dict[str, Any], is_chained: bool
) -> None:
    document = {"file": "*.json", "format": "json", "schema": ITEMS, "keys": ["id"], "duplicates": "quarantine"}
    config = Table.model_validate(document | settings)
    rng = random.Random(3)
    landed = deliver(tmp_path, 25 if is_chained else 6, rng)
    read = ReadSettings(None, config, "UTC", frozenset(stored_schema(config).names))  # type: ignore[arg-type]
    database, alone = (local.open_database(tmp_path / name, 1, "UTC") for name in ("together", "alone"))
    preloaded = local.PreloadedRows(database, read, landed)
    fields = [*stored_schema(config), *([T.StructField(END_AT, T.TimestampType())] if config.scd == 2 else [])]
    schema, state, accepted, chained = arrow_schema(T.StructType(fields)), dict[Any, Any](), None, 0
    for snapshot in landed:
        rows = pa.Table.from_pylist(list(state.values()), schema)
        expected = local.compare_in_driver(read, snapshot, rows, alone)
        found = local.compare_in_driver(read, snapshot, rows, database, None, preloaded, accepted)
        chained += found is not None and found._chained is not None
        is_first = rng.random() < 0.3  # before the change set, which then comes from the tables of the database
        needed = others(found) if is_first else None
        assert result(found, snapshot.time) == result(expected, snapshot.time)
        if needed or rng.random() < 0.3:
            assert (needed or others(found)) == others(expected)
        if rng.random() < 0.1:
            continue  # it is held: the next one is compared with the same rows
        for change in found.change_set(2, snapshot.time).read_all().to_pylist() if found else []:
            key = tuple(change[name] for name in config.keys)
            state.pop(key, None) if change["_cdc_operation"] == "D" else state.__setitem__(key, change)
        accepted = snapshot.time
    assert (5 < chained < 20) if is_chained else chained == 0
    database.close()
    alone.close()


@pytest.mark.parametrize(
    ("first", "second", "is_chained"), [("-0.0", "0.0", False), ("0.0", "-0.0", False), ("0.0", "0.0", True)]
)
def test_a_deleted_row_has_the_form_of_zero_that_the_table_has(
    tmp_path: Path, first: str, second: str, is_chained: bool
) -> None:
    config = Table.model_validate({"file": "a.json", "format": "json", "schema": "id INT, x DOUBLE", "keys": ["id"]})
    landed, path = [], tmp_path / "a.json"
    texts = [f'{{"id": 1, "x": {first}}}', f'{{"id": 1, "x": {second}}}', '{"id": 2, "x": 1}']
    for number, text in enumerate(texts):
        path.write_text(text)
        landed.append(landing.land_snapshot(Lake(str(tmp_path / "lake")), "t", FIRST + timedelta(number), [path]))
    settings = ReadSettings(None, config, "UTC")  # type: ignore[arg-type]
    database = local.open_database(tmp_path, 1, "UTC")
    preloaded = local.PreloadedRows(database, settings, landed)
    state = pa.table({"id": pa.array([1], pa.int32()), "x": [float(first)]})  # the second snapshot changed nothing

    found = local.compare_in_driver(settings, landed[2], state, database, None, preloaded, landed[1].time)

    assert found is not None
    assert (found._chained is not None) == is_chained
    deleted = [row for row in found.change_set(3, FIRST).read_all().to_pylist() if row["_cdc_operation"] == "D"]
    assert [str(row["x"]) for row in deleted] == [first]
    database.close()


def test_a_small_change_set_has_the_values_of_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Table.model_validate({"file": "a.json", "format": "json", "schema": SCHEMA, "keys": ["id"]})
    path = tmp_path / "a.json"
    lines = [GOOD % (key, "é'\"", key) for key in range(5)] + ['{"id": 9, "x": "NaN", "at": "0001-01-01 00:00:00"}']
    path.write_text("\n".join(lines).replace("é'\"", "é'"))
    landed = landing.land_snapshot(Lake(str(tmp_path / "lake")), "items", FIRST, [path])
    settings = ReadSettings(None, config, "UTC")  # type: ignore[arg-type]
    state = pa.Table.from_pylist([{"id": 1, "v": "other"}, {"id": 7}], arrow_schema(stored_schema(config)))
    database = local.open_database(tmp_path, 1, "UTC")
    few = result(local.compare_in_driver(settings, landed, state, database), FIRST)
    monkeypatch.setattr("lakehouse.ingest.local.compare._FEW_ROWS", 0)

    assert result(local.compare_in_driver(settings, landed, state, database), FIRST) == few
    database.close()
