"""Tests the history (scd 2) against a reference model in plain Python, with many random lives of keys at once.

A key's life is a list of changes, one a change set. The windows are computed in both ways: change set by change set, as
bronze applies them, and from all at once, as bronze is repaired. Both must give the windows of the reference model.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.bronze import scd2
from lakehouse.config import Table
from lakehouse.schema.table_schema import stored_schema
from lakehouse.spark.session import isolated_session, local_frame

LIVES, SETS = 400, 7
NOON = datetime(2025, 10, 3, 12, tzinfo=timezone.utc)
CHANGES = "part STRING, id INT, a STRING, b STRING, c STRING, _cdc_operation STRING, _cdc_timestamp TIMESTAMP"
CHANGES += ", _cdc_sequence BIGINT, _cdc_changed ARRAY<STRING>"
HISTORY = CHANGES.replace("_cdc_changed ARRAY<STRING>", "__START_AT TIMESTAMP, __END_AT TIMESTAMP")

Values = tuple[str | None, str | None, str | None]


@dataclass(frozen=True)
class Change:
    key: tuple[str, int]
    values: Values
    operation: str
    time: datetime
    sequence: int
    changed: tuple[str, ...] | None

    @property
    def row(self) -> tuple[Any, ...]:
        changed = list(self.changed) if self.changed is not None else None
        return (*self.key, *self.values, self.operation, self.time, self.sequence, changed)


@dataclass(frozen=True)
class HistoryWindow:
    values: Values
    opened_by: Change
    end: datetime | None = None

    @property
    def row(self) -> tuple[Any, ...]:
        by = self.opened_by
        return (*by.key, *self.values, by.operation, by.time, by.sequence, by.time, self.end)


def windows(life: list[Change], tracked: set[str]) -> list[HistoryWindow]:
    """Return the windows of a life, one change after the other."""
    result: list[HistoryWindow] = []
    for change in life:
        is_open = bool(result) and result[-1].end is None
        opens = change.operation == "I" or bool(tracked & set(change.changed or ()))
        if is_open and not opens and change.operation == "U":
            result[-1] = replace(result[-1], values=change.values)
            continue
        if is_open:
            last = result.pop()
            if last.opened_by.time < change.time:
                result.append(replace(last, end=change.time))
        if change.operation != "D":
            result.append(HistoryWindow(change.values, change))
    return result


def lives(seed: int) -> Iterator[list[Change]]:
    """Return lives of keys that are inserted, updated, deleted and inserted again; some change sets share a time."""
    rng = random.Random(seed)
    times, now = [], NOON
    for _ in range(SETS):
        times.append(now)
        now += timedelta(seconds=rng.choice([0, 1, 86_400]))
    for number in range(LIVES):
        life: list[Change] = []
        key, values, alive = (rng.choice(["x", "y"]), number), (None, None, None), False
        for sequence, time in enumerate(times, start=1):
            before = values
            fate = rng.random()
            if not alive and fate < 0.5:
                operation, changed, alive = "I", None, True
                values = tuple(rng.choice(["1", "2", None]) for _ in range(3))
            elif alive and fate < 0.6:
                values = tuple(rng.choice(["1", "2", None]) if rng.random() < 0.4 else v for v in before)
                changed = tuple(n for n, old, new in zip("abc", before, values, strict=True) if old != new)
                if not changed:
                    continue
                operation = "U"
            elif alive and fate < 0.8:
                operation, changed, alive = "D", None, False
            else:
                continue
            life.append(Change(key, values, operation, time, sequence, changed))
        yield life


@pytest.mark.parametrize(
    ("settings", "tracked"),
    [
        ({}, {"a", "b", "c"}),
        ({"history_for": ["b"]}, {"b"}),
        ({"history_except": ["a"], "ignore": ["c"]}, {"b"}),
    ],
)
def test_applying_and_folding_change_sets_give_the_windows_of_the_reference_model(
    spark: SparkSession, settings: dict[str, Any], tracked: set[str]
) -> None:
    table = Table.model_validate(
        {"file": "f", "format": "csv", "schema": "part STRING, id INT, a STRING, b STRING, c STRING"}
        | {"keys": ["part", "id"], "scd": 2, **settings}
    )
    all_lives = list(lives(seed=len(tracked)))
    expected = sorted((window.row for life in all_lives for window in windows(life, tracked)), key=str)
    own = isolated_session(spark, 0)  # with the settings of ingest
    changes = local_frame(own, CHANGES, [change.row for life in all_lives for change in life]).cache()

    assert _rows(scd2.build_history(changes, table, stored_schema(table))) == expected

    history: list[tuple[Any, ...]] = []
    for sequence in range(1, SETS + 1):
        current = local_frame(own, HISTORY, history)
        new = changes.where(F.col("_cdc_sequence") == sequence)
        opened = current.where(scd2.is_open_window()).join(new, on=table.keys, how="left_semi").select(current.columns)
        after, affected = scd2.apply_changes(opened, new, table, stored_schema(table))
        replaced = {tuple(row) for row in _rows(affected)}
        assert len(replaced) == affected.count(), "each affected window once"
        kept_rows = [row for row in history if (row[0], row[1], row[-2]) not in replaced]
        history = [*kept_rows, *_rows(after)]
    assert sorted(history, key=str) == expected
    assert any(window.end is None for life in all_lives for window in windows(life, tracked))
    assert max(len(windows(life, tracked)) for life in all_lives) > 2


def _rows(frame: DataFrame) -> list[tuple[Any, ...]]:
    """Return rows as sorted tuples, with times in UTC."""

    def aware(value: Any) -> Any:
        return value.astimezone(timezone.utc) if isinstance(value, datetime) else value

    return sorted((tuple(aware(v) for v in row) for row in frame.collect()), key=str)
