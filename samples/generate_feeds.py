"""Generates change feeds of one invented table, as four systems hand them out: batches in folders YYYYMMDD_HHMMSS.

    python samples/generate_feeds.py samples/feeds

Every feed tells the same changes of `customers` (id, name, points): a full load, then inserts, updates and deletes.
The second batch after it contains events that are older than some of the first, in another order. The same seed gives
the same files. `final_rows` is what all of them lead to.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ("Ana", "Bruno", "Caio", "Davi", "Elis", "Flora", "Gil", "Helena", "Ivo", "Joana")
LOAD_SIZE, CHANGES = 30, 60
START = datetime(2025, 1, 1, tzinfo=timezone.utc)
BATCHES = ("20250101_000000", "20250102_000000", "20250103_000000")
OPERATIONS = {"I": "c", "U": "u", "D": "d", "R": "r"}  # of Debezium; R is a read of the full load
_TIME = pa.timestamp("us", tz="UTC")

Row = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """A change of a row: the operation (R, I, U or D), the row before and after, and its place in the log."""

    operation: str
    before: Row | None
    after: Row | None
    position: int

    @property
    def row(self) -> Row:
        """The row after the change, or the deleted one."""
        row = self.after or self.before
        assert row is not None
        return row

    @property
    def time(self) -> datetime:
        """The time of the change; no two changes have the same."""
        return START + timedelta(minutes=self.position)


def changes(seed: int = 0) -> tuple[list[Change], list[Change]]:
    """Return the rows of the full load, and the changes after it in their order."""
    random_ = random.Random(seed)
    rows = {n: {"id": n, "name": random_.choice(NAMES), "points": 10 * n} for n in range(1, LOAD_SIZE + 1)}
    load = [Change("R", None, row, 0) for row in rows.values()]
    found: list[Change] = []
    for position in range(1, CHANGES + 1):
        operation = random_.choice("IUUUD")
        key = len(load) + position if operation == "I" else random_.choice(sorted(rows))
        before = rows.get(key)
        after = None if operation == "D" else {"id": key, "name": random_.choice(NAMES), "points": position}
        found.append(Change(operation, before, after, position))
        rows = {**{k: v for k, v in rows.items() if k != key}, **({key: after} if after else {})}
    return load, found


def final_rows(seed: int = 0) -> list[Row]:
    """Return the rows after all changes, by their key."""
    load, later = changes(seed)
    rows = {change.row["id"]: change.after for change in [*load, *later]}
    return [row for _, row in sorted(rows.items()) if row]


def batches(seed: int = 0) -> Iterator[tuple[str, list[Change]]]:
    """Yield the folder and the events of each batch: the full load, and the changes in disorder."""
    load, later = changes(seed)
    random_ = random.Random(seed)
    parts: tuple[list[Change], list[Change]] = ([], [])
    for change in later:
        parts[random_.random() < (0.2 if change.position <= CHANGES // 2 else 0.8)].append(change)
    yield BATCHES[0], load
    for stamp, part in zip(BATCHES[1:], parts, strict=True):
        yield stamp, random_.sample(part, len(part))


def write_cdc_kaggle(folder: Path, seed: int = 0) -> None:
    """Write `full-load/customers.parquet`, and `cdc/customers.parquet` with `op` (I, U or D) in the later batches."""
    for stamp, events in batches(seed):
        rows = [event.row | {"DtAtualizacao": event.time, "op": event.operation} for event in events]
        table = pa.Table.from_pylist(rows, pa.schema([*_FIELDS, ("DtAtualizacao", _TIME), ("op", pa.string())]))
        is_load = stamp == BATCHES[0]
        path = folder / stamp / ("full-load" if is_load else "cdc") / "customers.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(table.drop_columns(["op"]) if is_load else table, path)


def write_dms(folder: Path, seed: int = 0) -> None:
    """Write the CSV files of AWS DMS: `LOAD00000001.csv` without `Op`, and files called by a time with it."""
    for stamp, events in batches(seed):
        is_load = stamp == BATCHES[0]
        path = folder / stamp / "shop" / "customers" / ("LOAD00000001.csv" if is_load else f"{stamp[:8]}-063000001.csv")
        path.parent.mkdir(parents=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*([] if is_load else ["Op"]), "id", "name", "points", "ts"])
            for event in events:
                time = event.time.strftime("%Y-%m-%d %H:%M:%S.%f")
                writer.writerow([*([] if is_load else [event.operation]), *event.row.values(), time])


def write_debezium(folder: Path, seed: int = 0) -> None:
    """Write Debezium's envelopes, one a line, with a tombstone behind each delete."""
    for stamp, events in batches(seed):
        lines = []
        for event in events:
            source = {"db": "shop", "table": "customers", "lsn": 1000 + event.position}
            envelope = {"before": event.before, "after": event.after, "source": source}
            envelope |= {"op": OPERATIONS[event.operation], "ts_ms": int(event.time.timestamp() * 1000)}
            lines += [json.dumps(envelope), *(["null"] if event.operation == "D" else [])]
        path = folder / stamp / "customers.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_change_sets(folder: Path, seed: int = 0) -> None:
    """Write the change sets of a lake of this project: datasets `customers.parquet` with the columns `_cdc_*`."""
    sequences = {event.position: number for number, event in enumerate(changes(seed)[1], 2)}
    fields = [*_FIELDS, ("_cdc_operation", pa.string()), ("_cdc_timestamp", _TIME), ("_cdc_sequence", pa.int64())]
    for stamp, events in batches(seed):
        rows = [
            event.row
            | {"_cdc_operation": event.operation.replace("R", "I"), "_cdc_timestamp": event.time}
            | {"_cdc_sequence": sequences.get(event.position, 1)}
            for event in events
        ]
        path = folder / stamp / "customers.parquet" / "part-00000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), path)


_FIELDS = [("id", pa.int32()), ("name", pa.string()), ("points", pa.int64())]
WRITERS = {
    "cdc-kaggle": write_cdc_kaggle,
    "dms": write_dms,
    "debezium": write_debezium,
    "change-sets": write_change_sets,
}


def main(arguments: list[str] | None = None) -> None:
    """Write all feeds, each into a folder of its own, which is replaced."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    for name, write in WRITERS.items():
        shutil.rmtree(given.folder / name, ignore_errors=True)
        write(given.folder / name, given.seed)
        print(f"{given.folder / name} is written")


if __name__ == "__main__":
    main()
