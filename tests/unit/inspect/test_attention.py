"""What needs attention comes first in `status`, most urgent first, each with the command to type."""

from __future__ import annotations

from typing import Any

import pytest

from lakehouse.inspect.attention import find_attention

TABLE = {
    "table": "items",
    "sequence": 2,
    "snapshot_time": "2025-01-02T00:00:00Z",
    "age_seconds": 60,
    "newest": "accepted",
    "held": None,
    "waiting": 0,
    "quarantined": 0,
    "overdue_seconds": 0,
    "bronze_sequence": 2,
    "note": None,
    "changed_in_source": [],
    "leading_zeros": None,
}
CHANGED = {"snapshot_time": "2025-01-03T00:00:00Z", "next_step": "lakehouse approve conf/shop items 20250103_000000"}
HELD = {"newest": "held", "held": "2025-01-03T00:00:00Z", "note": "deletes 3 of 4 rows"}
QUARANTINE = "lakehouse quarantine conf/shop items"
AS_TEXT = "declare it as STRING in `schema`; then lakehouse bronze conf/shop items --full-refresh"
RULE = {"model": "silver.items", "rule": "small", "found": "2 rows", "on_fail": "quarantine"}


def found(**parts: Any) -> list[tuple[str, str, str]]:
    document: dict[str, Any] = {
        "pipeline": "shop",
        "tables": [TABLE],
        "models": [],
        "published": [],
        "expectations": [],
        "runs": [],
    }
    rows = find_attention(document | parts, "conf/shop")
    return [(row["what"], row["name"], row["next"]) for row in rows]


def test_a_snapshot_that_is_not_ready_is_named_with_those_that_wait() -> None:
    waiting = {"snapshot": "20250103_000000", "message": "20250103_000000 is not ready: no _SUCCESS"}

    assert found(not_ready=waiting) == [
        ("not ready", "20250103_000000", "wait for the source to complete it; then lakehouse run conf/shop")
    ]


def test_nothing_needs_somebody() -> None:
    runs = [{"doing": "run", "run_id": "r", "exit_code": 0, "failed": []}]
    assert found(runs=runs, models=[{"model": "gold.x", "waiting": []}]) == []


@pytest.mark.parametrize(
    ("change", "what", "command"),
    [
        (HELD, "held", "lakehouse approve conf/shop items 20250103_000000, or correct the source"),
        ({"newest": "rejected", "note": "x"}, "rejected", "correct the source; lakehouse history conf/shop items"),
        ({"bronze_sequence": 1}, "bronze is behind", "lakehouse bronze conf/shop items"),
        ({"bronze_sequence": None}, "bronze is behind", "lakehouse bronze conf/shop items"),
        ({"waiting": 2}, "landed snapshots", "lakehouse ingest conf/shop items"),
        ({"changed_in_source": [CHANGED]}, "changed in the source", CHANGED["next_step"]),
        ({"age_seconds": -7200}, "in the future", "name folders by their time in UTC: date -u +%Y%m%d_%H%M%S"),
        ({"leading_zeros": "leading zeros are not kept of n (INT)", "quarantined": 3}, "quarantine", QUARANTINE),
        ({"leading_zeros": "leading zeros are not kept of the KEY id (INT)"}, "leading zeros", AS_TEXT),
        ({"quarantined": 3}, "quarantine", "lakehouse quarantine conf/shop items"),
        ({"overdue_seconds": 7200}, "overdue", "lakehouse run conf/shop"),
    ],
)
def test_a_table_that_needs_somebody(change: dict[str, Any], what: str, command: str) -> None:
    assert found(tables=[TABLE | change]) == [(what, "items", command)]


def test_the_most_urgent_comes_first() -> None:
    tables = [TABLE | {"table": "a", "quarantined": 1}, TABLE | HELD | {"table": "b"}]
    failed = [RULE, RULE | {"rule": "total", "on_fail": "fail"}]
    runs = [{"doing": "run", "run_id": "r", "exit_code": 3, "failed": []}]
    rows = found(tables=tables, expectations=failed, runs=runs, models=[{"model": "gold.x", "waiting": ["silver.y"]}])

    assert [(what, name) for what, name, _ in rows] == [
        ("held", "b"),
        ("quarantine", "a"),
        ("the last run failed", "r"),
        ("the model is stopped", "silver.items"),
        ("expectations", "silver.items"),
        ("changes to read", "gold.x"),
    ]


def test_before_the_first_run_there_is_one_row() -> None:
    new = TABLE | {"newest": None, "sequence": None, "bronze_sequence": None}
    models = [{"model": "silver.items", "waiting": ["bronze.items"]}, {"model": "gold.x", "waiting": ["silver.items"]}]

    assert found(tables=[new], models=models) == [("nothing has run yet", "shop", "lakehouse run conf/shop")]


def test_a_model_that_is_stopped_or_waits_is_listed_with_its_reason_and_once() -> None:
    note = "found:    silver.x cannot be computed: CAST_INVALID_INPUT\nexpected: y\nnext:     `lakehouse run PIPELINE`"
    models = [
        {"model": "silver.x", "waiting": ["bronze.items"], "stopped": "failed", "note": note},
        {"model": "gold.y", "waiting": [], "stopped": "waiting", "note": "waits for silver.x: not refreshed"},
        {"model": "gold.z", "waiting": ["silver.w"], "stopped": None, "note": None},
    ]

    assert found(models=models) == [
        ("the model is stopped", "silver.x", "`lakehouse run conf/shop`"),
        ("the model waits", "gold.y", "lakehouse run conf/shop"),
        ("changes to read", "gold.z", "lakehouse run conf/shop"),
    ]
