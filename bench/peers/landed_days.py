"""Counts what each landed snapshot of a pipeline changed, with Python alone: values are compared as texts, by key."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lakehouse.config import Table
from lakehouse.runner import context
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot

Rows = dict[tuple[Any, ...], tuple[Any, ...]]  # the values of each key


class UnreadableError(Exception):
    """A snapshot that would be rejected: a column or a file is missing, a key twice, or it is no JSON."""


@dataclass(frozen=True)
class LandedDay:
    """What a snapshot changed.

    Attributes:
        time: Its time.
        before: The rows before it.
        inserted: Keys that it inserted; so `updated` and `deleted`.
    """

    time: datetime
    before: int
    inserted: int
    updated: int
    deleted: int


def days_of(folder: Path) -> Iterator[tuple[str, list[LandedDay], int]]:
    """Yield each table of a pipeline, what its landed snapshots changed, and how many could not be read.

    The first snapshot is the state with which the others are compared, so it is no day.

    Args:
        folder: The folder of the pipeline, after `lakehouse extract`.
    """
    run = context.open_run(folder)
    for name, table in run.pipeline.tables.items():
        if table.format not in ("csv", "json"):
            raise SystemExit(f"{name} is {table.format}: only CSV and JSON are read here")
        before, hashes, days, unreadable = None, None, list[LandedDay](), 0
        for snapshot in landing.list_snapshots(run.lake, name):
            if snapshot.file_hashes == hashes:
                continue  # unchanged: the guard is not asked
            try:
                rows = _read(snapshot, table)
            except (UnreadableError, ValueError, LookupError, TypeError):
                unreadable += 1
                continue
            if before is not None:
                days.append(_compare(before, rows, snapshot.time))
            before, hashes = rows, snapshot.file_hashes
        yield name, days, unreadable


def _compare(before: Rows, rows: Rows, time: datetime) -> LandedDay:
    inserted, deleted = len(rows.keys() - before.keys()), len(before.keys() - rows.keys())
    updated = sum(before[key] != values for key, values in rows.items() if key in before)
    return LandedDay(time, len(before), inserted, updated, deleted)


def _read(snapshot: LandedSnapshot, table: Table) -> Rows:
    names = [table.name_in_files(column.name).lower() for column in table.columns]
    keys = [table.name_in_files(key).lower() for key in table.keys]
    required = {*(names if table.format == "csv" else keys)}  # a member that an object lacks is null
    found: Rows = {}
    if not snapshot.paths:
        raise UnreadableError
    for path in snapshot.paths:
        for record in _records(Path(str(path)), table):
            row = {name.lower(): value for name, value in record.items() if name}
            if not row.keys() >= required:
                raise UnreadableError
            key, values = tuple(row[name] for name in keys), tuple(row.get(name) for name in names)
            if found.setdefault(key, values) != values:
                raise UnreadableError
    return found


def _records(path: Path, table: Table) -> Iterator[dict[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    if table.format == "csv":
        yield from csv.DictReader(text.splitlines(keepends=True), delimiter=table.options.get("sep", ","))
        return
    document = json.loads(text) if text.lstrip().startswith("[") or table.record_names else None
    for name in table.record_names:
        document = document[name]
    records = [json.loads(line) for line in text.splitlines() if line.strip()] if document is None else document
    for record in records:
        yield {name: json.dumps(value) for name, value in record.items()}
