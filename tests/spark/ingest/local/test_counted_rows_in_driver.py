"""The driver counts the rows of a table without a key as a plain multiset does; it needs no session."""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from reference_model import count_changes

from lakehouse.config import Table
from lakehouse.ingest import local
from lakehouse.ingest.local import LocalRows
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake.small_tables import arrow_schema
from lakehouse.schema.table_schema import stored_schema
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

SEED = os.environ.get("LAKEHOUSE_SEED")  # set by make test-random; else always the same snapshots
DRAWS = 200 if SEED else 6
TIME = datetime(2025, 1, 1, tzinfo=timezone.utc)
COUNTED: dict[str, Any] = {"format": "csv", "schema": "a STRING, n INT, d DECIMAL(6,2)", "keys": "all"}
Line = tuple[str, str, str]


def random_lines(rng: random.Random) -> list[Line]:
    return [
        (
            rng.choice(["", "x", "x:1", "y"]),
            rng.choice(["", "1", "1", "2", "z" if rng.random() < 0.1 else "3"]),
            rng.choice(["", "0.00", "-0.5", "10", "10.00"]),
        )
        for _ in range(rng.randint(0, 14))
    ]


def row(line: Line) -> tuple[Any, ...] | None:
    """The values of a line; None if one cannot be read."""
    if line[1] == "z":
        return None
    number = f"{float(line[2]):.2f}" if line[2] else None
    return (line[0] or None, int(line[1]) if line[1] else None, number)


def compare(folder: Path, lines: list[Line], state: pa.Table) -> LocalRows:
    config = Table.model_validate(COUNTED | {"file": "items.csv"})
    folder.mkdir()
    (folder / "items.csv").write_text("".join(f"{','.join(line)}\n" for line in [("a", "n", "d"), *lines]))
    landed = landing.land_snapshot(Lake(str(folder / "lake")), "items", TIME, [folder / "items.csv"])
    settings: Any = ReadSettings(None, config, "UTC")  # type: ignore[arg-type]
    connection = local.open_database(folder, landed.size, "UTC")
    found = local.compare_in_driver(settings, landed, state, connection)
    assert found is not None
    return found


def multiset(rows: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    return Counter({_values(each): each["_cdc_count"] for each in rows})


def _values(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["a"], row["n"], None if row["d"] is None else str(row["d"]))


@pytest.mark.parametrize("draw", range(DRAWS))
def test_counts_and_changes_are_those_of_a_multiset(draw: int, tmp_path: Path) -> None:
    rng = random.Random(f"{SEED} {draw}")
    schema = arrow_schema(stored_schema(Table.model_validate(COUNTED | {"file": "items.csv"})))
    state = schema.empty_table()
    for number in range(3):
        lines = random_lines(rng)
        expected = count_changes(multiset(state.to_pylist()), [row(line) for line in lines])
        found = compare(tmp_path / str(number), lines, state)
        changes = found.change_set(1, TIME).read_all()
        assert {name: count for name in expected.counts if (count := getattr(found.counts, name))} == dict(
            expected.counts
        ), lines
        assert {(_values(each), each["_cdc_operation"], each["_cdc_count"]) for each in changes.to_pylist()} == {
            *expected.changes
        }
        assert found.counts.fewer == expected.fewer
        assert found.counts.unreadable_keys == expected.counts["quarantined"]
        changed = {each["_cdc_row"] for each in changes.to_pylist()}
        kept = [each for each in state.to_pylist() if each["_cdc_row"] not in changed]
        kept += [each for each in changes.select(schema.names).to_pylist() if each["_cdc_row"] in live(changes)]
        state = pa.Table.from_pylist(kept, schema=schema)


def live(changes: pa.Table) -> set[str]:
    return {each["_cdc_row"] for each in changes.to_pylist() if each["_cdc_operation"] != "D"}
