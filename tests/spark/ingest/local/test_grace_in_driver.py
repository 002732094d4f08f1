"""The driver compares snapshots of a table with `missing` as the plain model does; it needs no session."""

from __future__ import annotations

import os
import random
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from grace_model import BAD, Row, Taken, slice_of
from grace_model import Table as Model
from pyspark.sql import types as T

from lakehouse.bronze import STATE_FIELDS
from lakehouse.config import Table
from lakehouse.ingest import local
from lakehouse.ingest.local import LocalRows
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake.grace import Grace, expiry_bound
from lakehouse.lake.small_tables import arrow_schema
from lakehouse.schema.table_schema import stored_schema
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

SEED = os.environ.get("LAKEHOUSE_SEED")  # set by make test-random; else always the same snapshots
DRAWS = 100 if SEED else 5
SNAPSHOTS = 8
FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
AFTERS: list[int | timedelta] = [0, 1, 2, 3, 5 * HOUR, 12 * HOUR]
TABLE = {"format": "csv", "keys": ["id"], "schema": "id INT, uf STRING, qty INT", "duplicates": "quarantine"}


@pytest.mark.parametrize("is_sliced", [False, True], ids=["whole", "sliced"])
def test_operations_counts_and_times_are_those_of_the_model(tmp_path: Path, is_sliced: bool) -> None:
    for draw in range(DRAWS):
        rng = random.Random(f"{SEED} {is_sliced} {draw}")
        model = Model(rng.choice(AFTERS), rng.random() < 0.5)
        time, taken = FIRST, list[tuple[datetime, set[int]]]()
        for number in range(SNAPSHOTS):
            time += rng.randint(1, 8) * HOUR
            slices = {n for n in range(3) if rng.random() < 0.6} or {0} if is_sliced else {0, 1, 2}
            keys = [key for key in range(9) if slice_of(key) in slices and rng.random() < 0.6]
            contents = {key: rng.choice([1, 1, 1, 2, BAD]) for key in keys}
            folder, grace = tmp_path / f"{draw} {number}", grace_at(model, time, taken, is_sliced)
            with ExitStack() as stack:
                found = compare(folder, contents, slices if is_sliced else None, model.rows, time, grace, stack)
                before = dict(model.rows)
                done = model.take(time, contents, slices=slices if is_sliced else None)
                if done.status == "accepted":  # else it is equal to the last one, which is not compared
                    assert_equal(found, done, before, model, time)
                    live = [k for k, row in before.items() if not row.marked and slice_of(k) in slices]
                    assert found.counts.live_rows == (len(live) if is_sliced else None)
            taken.append((time, slices))


def grace_at(model: Model, time: datetime, taken: list[tuple[datetime, set[int]]], is_sliced: bool) -> Grace:
    def bound_in(each: tuple[str, ...]) -> datetime | None:
        return expiry_bound(model.after, time, [at for at, slices in taken if int(each[0]) in slices])

    bound = expiry_bound(model.after, time, [at for at, _ in taken])
    return Grace(time, bound, model.mark, bound_in if is_sliced else None)


def compare(
    folder: Path,
    contents: dict[int, int],
    slices: set[int] | None,
    rows: dict[int, Row],
    time: datetime,
    grace: Grace,
    stack: ExitStack,
) -> LocalRows:
    folder.mkdir()
    lines = {k: f"{k},{slice_of(k)},{'bad' if v == BAD else v}\n" for k, v in contents.items()}
    paths = []
    for each in slices if slices is not None else [None]:
        path = folder / (f"items_{each}.csv" if each is not None else "items.csv")
        text = "".join(line for k, line in lines.items() if each is None or slice_of(k) == each)
        if each is not None:
            text = text.replace(f",{each},", ",")
        path.write_text(("id,uf,qty\n" if each is None else "id,qty\n") + text)
        paths.append(path)
    sliced = {"file": "items_{uf}.csv", "slice_by": ["uf"]} if slices is not None else {"file": "items.csv"}
    config = Table.model_validate(TABLE | sliced)
    snapshot = landing.land_snapshot(Lake(str(folder / "lake")), "items", time, paths)
    fields = T.StructType([*stored_schema(config), *STATE_FIELDS])
    values = [(k, str(slice_of(k)), row.content, row.since, row.operation) for k, row in rows.items()]
    state = pa.Table.from_pylist([dict(zip(fields.names, row, strict=True)) for row in values], arrow_schema(fields))
    settings = ReadSettings(None, config, "UTC")  # type: ignore[arg-type]
    connection = local.open_database(folder, snapshot.size, "UTC")
    stack.callback(connection.close)
    found = local.compare_in_driver(settings, snapshot, state, connection, grace)
    assert found is not None
    return found


def assert_equal(found: LocalRows, done: Taken, before: dict[int, Row], model: Model, time: datetime) -> None:
    changes = {row["id"]: row for row in found.change_set(7, time).read_all().to_pylist()}
    assert {key: row["_cdc_operation"] for key, row in changes.items()} == done.operations
    after = {key: model.rows[key].since if key in model.rows else None for key in changes}
    assert {key: row["_cdc_missing_since"] for key, row in changes.items()} == after
    for key, row in changes.items():
        if row["_cdc_operation"] in "MRD":
            assert (row["uf"], row["qty"]) == (str(slice_of(key)), before[key].content)
    counts, operations = found.counts, list(done.operations.items())
    for name in ("inserted", "updated", "deleted", "unchanged", "quarantined"):
        assert getattr(counts, name) == done.counts[name], name
    assert counts.missing == done.missing
    assert counts.went_missing == sum(operation == "M" for _, operation in operations)
    assert counts.marks == sum(operation in "MR" for _, operation in operations)
    assert counts.expired == sum(operation == "D" and before[key].since is not None for key, operation in operations)
