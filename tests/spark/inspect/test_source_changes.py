"""Source changes between two times: pairs of rows by key, and their order."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from itertools import pairwise
from typing import Any

from lakehouse.inspect.why.effects import Effect, EffectColumns
from lakehouse.inspect.why.source_changes import TableChange, merge_changes, ordered_changes

FIRST, SECOND, THIRD = (datetime(2025, 1, day, tzinfo=timezone.utc) for day in (1, 2, 3))


def row(key: Any, value: Any, time: datetime = FIRST, **more: Any) -> dict[str, Any]:
    return {"id": key, "value": value, "_cdc_timestamp": time} | more


def test_rows_are_paired_by_key_and_ordered_by_snapshot() -> None:
    nan = float("nan")
    before = [row(1, 1), row(2, 2), row(nan, 3), row(4, nan)]
    after = [row(1, 9, THIRD), row(nan, 3), row(4, nan), row(5, 5, SECOND)]
    table = TableChange("bronze.t", ["id"], before, after)
    other = TableChange("bronze.s", ["id"], [row(1, 1)], [])

    assert [each["id"] for each in table.unchanged][1:] == [4] and len(table.unchanged) == 2
    found = ordered_changes([table, other], {"bronze.t": {"[2]": SECOND}})
    assert [(change.table, change.kind, change.time) for change in found] == [
        ("bronze.t", "deleted", SECOND),
        ("bronze.t", "inserted", SECOND),
        ("bronze.t", "updated", THIRD),
        ("bronze.s", "deleted", None),
    ]
    merged = merge_changes(found)
    assert [(change.kind, len(change.rows), change.time) for change in merged] == [
        ("changed", 2, SECOND),
        ("updated", 1, THIRD),
        ("deleted", 1, None),
    ]


def test_a_closed_window_changed_when_it_ended() -> None:
    windows = [row(1, 1, __START_AT=FIRST, __END_AT=end) for end in (None, THIRD)]
    table = TableChange("bronze.t", ["id", "__START_AT"], windows[:1], windows[1:])
    assert [change.time for change in ordered_changes([table], {})] == [THIRD]


def test_effects_are_ordered_by_their_share_and_add_up_exactly() -> None:
    columns = EffectColumns(["day", "n", "amount", "ratio", "name"], frozenset({"day"}))
    rows: list[Any] = [
        None,
        {"day": 1, "n": 1, "amount": Decimal("0.10"), "ratio": 0.1, "name": "x"},
        {"day": 1, "n": 1, "amount": Decimal("100.30"), "ratio": 0.3, "name": "x"},
        {"day": 1, "n": 1, "amount": Decimal("100.30"), "ratio": 0.3, "name": "x"},
        {"day": 1, "n": 2, "amount": None, "ratio": float("nan"), "name": "y"},
    ]
    effects = [Effect(None, before, after) for before, after in pairwise(rows)]

    found = columns.by_size(effects)
    assert [columns.shown_shares(e.before, e.after) for e in found] == [
        {"amount": "100.20", "ratio": 0.3 - 0.1},
        {"n": 1, "amount": "0.10", "ratio": 0.1},
        {"n": 1, "amount": "-100.30"},
    ]
    sums = columns.totals(effects)
    assert (sums["n"], sums["amount"]) == (2, 0)
    assert columns.describe(found[-1], ())["effect"] == {
        "n": [1, 2],
        "amount": ["100.30", None],
        "ratio": [0.3, "NaN"],
        "name": ["x", "y"],
    }
