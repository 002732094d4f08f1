"""A backlog writes change sets while the next snapshot is compared; none of its decisions counts before. No JVM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from lakehouse.config import Table
from lakehouse.ingest.backlog import Backlog
from lakehouse.lake import ledger
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.schema.table_schema import stored_schema

CONFIG = Table.model_validate({"file": "a.csv", "format": "csv", "schema": "id INT, v STRING", "keys": ["id"]})
NO_ROWS = pa.table({"id": pa.array([], pa.int32()), "v": pa.array([], pa.string())})


class Change:
    """A comparison that inserts a row, and whose change set is written by `write`."""

    missing_columns = frozenset[str]()
    counts = SimpleNamespace(changes=1)
    snapshot = SimpleNamespace(time=datetime(2025, 1, 1, tzinfo=timezone.utc))

    def __init__(self, key: int, write: Callable[[], None]) -> None:
        self.key, self.write = key, write

    def collect_change_set(self, sequence: int, path: str) -> tuple[pa.Table, Callable[[], None]]:
        row = {"id": pa.array([self.key], pa.int32()), "v": ["x"], "_cdc_operation": ["I"]}
        return pa.table(row), self.write


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    monkeypatch.setattr(ledger, "append_all", lambda spark, lake, added: entries.extend(added))
    return entries


@pytest.fixture
def backlog() -> Iterator[Backlog]:
    table = SimpleNamespace(name="t", config=CONFIG, schema=stored_schema(CONFIG), spark=None, lake=None)
    with ExitStack() as stack:
        found = Backlog(cast(Any, SimpleNamespace(table=table)), [cast(Any, SimpleNamespace(size=1))], stack)
        found._rows = NO_ROWS
        yield found


def take(backlog: Backlog, number: int, write: Callable[[], None]) -> None:
    time = datetime(2025, 1, number, tzinfo=timezone.utc)
    backlog.write_change_set(cast(Any, Change(number, write)), number, f"raw/{number}")
    backlog.add(LedgerEntry("t", number, time, "f", "accepted", path=f"raw/{number}"))


def test_the_ledger_waits_for_the_change_sets(backlog: Backlog, published: list[LedgerEntry]) -> None:
    may_end, written = Event(), list[int]()

    def write_late() -> None:
        may_end.wait(20)
        assert not published
        written.append(1)

    take(backlog, 1, write_late)
    take(backlog, 2, lambda: written.append(2))
    assert backlog._rows is not None and backlog._rows["id"].to_pylist() == [1, 2]
    may_end.set()
    backlog.publish()
    assert sorted(written) == [1, 2]
    assert [entry.sequence for entry in published] == [1, 2]


def test_nothing_is_published_if_a_change_set_cannot_be_written(backlog: Backlog, published: list[LedgerEntry]) -> None:
    def fail() -> None:
        raise OSError("no space left on device")

    for number in range(1, 20):
        take(backlog, number, fail if number == 3 else lambda: None)
    with pytest.raises(OSError, match="no space left"):
        backlog.publish()
    backlog.publish()
    assert published == []
