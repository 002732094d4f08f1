"""The driver compares snapshots of slices as the model of the contract does; it needs no session."""

from __future__ import annotations

import os
import random
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from reference_model import Columns, Content, Key, Record, State, diff

from lakehouse.config import Table
from lakehouse.ingest import local
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake.small_tables import arrow_schema
from lakehouse.schema.table_schema import stored_schema
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

SEED = os.environ.get("LAKEHOUSE_SEED")  # set by make test-random; else always the same snapshots
DRAWS = 200 if SEED else 15
TIME = datetime(2025, 1, 1, tzinfo=timezone.utc)
UFS = ("SP", "RJ", "MG")
COLUMNS = Columns(("uf", "n", "qty"), slice_by=("uf", "n"))
Line = tuple[str, str, str, str]  # id, uf, n, qty


def table(file: str, **settings: Any) -> Table:
    known = {"file": file, "format": "csv", "schema": "id INT, uf STRING, n INT, qty INT", "keys": ["id"]}
    return Table.model_validate(known | {"slice_by": ["uf", "n"], "duplicates": "quarantine"} | settings)


def random_lines(rng: random.Random, ufs: list[str]) -> list[Line]:
    lines = [
        (
            "x" if rng.random() < 0.03 else "" if rng.random() < 0.03 else str(rng.randint(0, 9)),
            rng.choice(ufs),
            "" if rng.random() < 0.05 else "z" if rng.random() < 0.05 else str(rng.randint(1, 2)),
            "x" if rng.random() < 0.05 else str(rng.randint(0, 2)),
        )
        for _ in range(rng.randint(0, 10))
    ]
    return lines if rng.random() < 0.3 else list({line[0]: line for line in lines}.values())


def record(line: Line) -> Record:
    key: Key | None = (int(line[0]),) if line[0].isdigit() else None
    is_good = line[3] != "x" and line[2] != "z"
    content: Content | None = (line[1], int(line[2]) if line[2] else None, int(line[3])) if is_good else None
    return Record(key, content, is_key_unreadable=line[0] == "x")


def write(folder: Path, file: str, lines: list[Line], ufs: list[str]) -> list[Path]:
    """Write the lines to a file for each `uf`, for each `uf` and `n`, or to one file."""
    paths = []
    in_name = [column for column in ("uf", "n") if f"{{{column}}}" in file]
    groups: dict[tuple[str, ...], list[Line]] = {}
    if in_name == ["uf"]:
        groups = {(uf,): [line for line in lines if line[1] == uf] for uf in ufs}
    elif in_name:
        groups = {(uf, n): [line for line in lines if line[1:3] == (uf, n)] for uf in ufs for n in ("1", "2")}
    else:
        groups = {(): lines}
    for values, of_file in groups.items():
        path = folder / file.format(**dict(zip(in_name, values, strict=True)))
        header = [column for column in ("id", "uf", "n", "qty") if column not in in_name]
        at = [("id", "uf", "n", "qty").index(column) for column in header]
        path.write_text("".join(f"{','.join(row)}\n" for row in [header, *([line[i] for i in at] for line in of_file)]))
        paths.append(path)
    return paths


@pytest.mark.parametrize("file", ["items.csv", "items_{uf}.csv", "{n}_items_{uf}.csv"])
def test_counts_slices_and_rows_are_those_of_the_model(file: str, tmp_path: Path) -> None:
    for draw in range(DRAWS):
        rng = random.Random(f"{SEED} {file} {draw}")
        config = table(file)
        ufs = rng.sample(UFS, rng.randint(1, 3))
        lines = random_lines(rng, ufs)
        if "{n}" in file:
            lines = [line for line in lines if line[2] in ("1", "2")]
        before: State = {
            (key,): (rng.choice(UFS), rng.randint(1, 2), rng.randint(0, 2)) for key in rng.sample(range(10), 6)
        }
        folder = tmp_path / str(draw)
        folder.mkdir()
        paths = write(folder, file, lines, ufs)
        in_names: list[Content] = [(uf, n) for uf in ufs for n in (1, 2)] if "{n}" in file else []
        expected = diff(before, [record(line) for line in lines], COLUMNS, in_names)
        landed = landing.land_snapshot(Lake(str(folder / "lake")), "items", TIME, paths)
        rows = [{"id": key, "uf": uf, "n": n, "qty": qty} for (key,), (uf, n, qty) in before.items()]
        state = pa.Table.from_pylist(rows, schema=arrow_schema(stored_schema(config)))
        settings: Any = ReadSettings(None, config, "UTC")  # type: ignore[arg-type]
        with ExitStack() as stack:
            connection = local.open_database(folder, landed.size, "UTC")
            stack.callback(connection.close)
            found = local.compare_in_driver(settings, landed, state, connection)
            assert found is not None
            assert found.slices is not None
            changes = found.change_set(2, TIME).read_all().to_pylist()
            contained = {(uf, int(n)) for uf, n in found.slices.values}
            rules = sorted(rule or "" for *_, rule in found.quarantine_rows)

        names = ("inserted", "updated", "deleted", "unchanged", "quarantined", "duplicates", "rows_read")
        counts = {name: count for name in names if (count := getattr(found.counts, name))}
        assert counts == dict(expected.counts), (draw, lines)
        assert {(row["id"], row["_cdc_operation"]) for row in changes} == {
            (change.key[0], change.operation) for change in expected.changes
        }
        assert found.counts.live_rows == sum((uf, n) in contained for uf, n, _ in before.values())
        assert rules.count("null_slice") == sum(line[0].isdigit() and line[2] == "" for line in lines)
