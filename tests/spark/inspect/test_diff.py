"""Arguments and output of `lakehouse diff`. No JVM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lakehouse.cli import snapshot_diff
from lakehouse.errors import ConfigError
from lakehouse.inspect.diff import select_pair
from lakehouse.inspect.diff_samples import percent
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name, snapshot_time

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"


def landed(*stamps: str) -> list[LandedSnapshot]:
    times = [time for stamp in stamps if (time := snapshot_time(stamp))]
    return [LandedSnapshot("items", time, Path("landing"), ()) for time in times]


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        (FIRST, SECOND, (FIRST, SECOND)),
        (FIRST, None, (FIRST, THIRD)),
        (None, SECOND, (FIRST, SECOND)),
        (None, THIRD, (SECOND, THIRD)),
    ],
)
def test_a_missing_side_is_the_newest_snapshot_or_the_one_before_the_other(
    first: str, second: str, chosen: tuple[str, str]
) -> None:
    older, newer = select_pair("items", landed(FIRST, SECOND, THIRD), first, second)

    assert (snapshot_name(older.time), snapshot_name(newer.time)) == chosen


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("20260101_000000", None, "no snapshot 20260101_000000 of items has landed"),
        ("yesterday", "today", "no snapshot yesterday and no today of items has landed"),
        (None, FIRST, f"no snapshot of items has landed before {FIRST}"),
        (SECOND, FIRST, f"--from {SECOND} is not before --to {FIRST}"),
        (SECOND, None, f"--from {SECOND} is not before --to {SECOND}"),
    ],
)
def test_snapshots_that_cannot_be_compared_are_answered_with_those_that_have_landed(
    first: str, second: str, found: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        select_pair("items", landed(FIRST, SECOND), first, second)

    assert refused.value.found == found
    assert f"{FIRST}, {SECOND}" in refused.value.expected


def test_a_long_list_of_snapshots_is_cut_to_the_newest() -> None:
    stamps = [f"202501{day:02}_000000" for day in range(1, 32)]
    with pytest.raises(ConfigError) as refused:
        select_pair("items", landed(*stamps), "yesterday", None)

    assert stamps[-1] in refused.value.expected
    assert stamps[0] not in refused.value.expected
    assert "and 11 older" in refused.value.expected


def test_without_landed_snapshots_the_error_names_the_next_step() -> None:
    with pytest.raises(ConfigError) as refused:
        select_pair("items", [], FIRST, None)

    assert "none" in refused.value.expected
    assert "lakehouse extract" in refused.value.next_step


def test_percentages_keep_six_digits_and_a_part_of_zero_rows_has_none() -> None:
    assert (percent(1, 3), percent(0, 4), percent(2, 0), percent(1, 10**9)) == (33.3333, 0.0, None, 1e-07)


# Output

COUNTS = {"inserted": 1, "updated": 1, "deleted": 2000, "unchanged": 0, "quarantined": 11, "duplicates": 0}


def table(**changed: Any) -> dict[str, Any]:
    return {
        "table": "items",
        "from": FIRST,
        "to": SECOND,
        "verdict": "held",
        "reason": "2000 of 3000 rows deleted, more than max_deleted 0.3",
        "counts": {"rows_read": 13, **COUNTS},
        "rows_before": 3000,
        "percent": {kind: percent(n, 3000) for kind, n in COUNTS.items()},
        "columns": {"note": 1, "qty": 1},
        "quarantine": [
            {"rule": "malformed", "column": "qty", "reason": f"reason {n}", "rows": 1}
            | {"value": f"v{n}", "line": n or None, "advice": "set it" if n else None}
            for n in range(11)
        ],
        "samples": {
            "inserted": [{"id": "[b]x[/b]", "qty": None, "note": ""}],
            "updated": [
                {
                    "key": {"id": "a"},
                    "changed": {"note": {"before": "null", "after": None}, "qty": {"before": 1, "after": 2}},
                }
            ],
            "deleted": [],
        },
        "note": "a note",
        **changed,
    }


def shown(capsys: pytest.CaptureFixture[str], *tables: dict[str, Any]) -> str:
    snapshot_diff.diff({"pipeline": "shop", "tables": list(tables), "exit_code": 0}, as_json=False)
    return capsys.readouterr().out


def test_a_table_is_one_block_with_counts_columns_reasons_and_samples(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, table())

    assert f"items, {FIRST} -> {SECOND}: held\n" in out
    assert "3,000 rows before, 13 read: inserted 1 (0.03333 %), updated 1 (0.03333 %), deleted 2,000 (66.67 %)" in out
    assert "changed columns: note 1, qty 1" in out
    assert "more than max_deleted 0.3" in out
    assert "a note" in out
    assert "[b]x[/b]" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["[b]x[/b]", "null", '""'] in lines
    assert ["key", "column", "before", "after"] in lines
    assert ["a", "note", '"null"', "null"] in lines
    assert ["qty", "1", "2"] in lines
    assert "deleted, for example" not in out
    assert out.count("malformed, reason") == 10
    assert "quarantined 1: malformed, reason 0, such as 'v0'\n" in out
    assert "quarantined 1: malformed, reason 1, such as 'v1' in line 1 (set it)\n" in out
    assert "... and 1 other reason\n" in out


def test_a_table_that_was_not_compared_has_only_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    empty: dict[str, Any] = {"counts": {}, "rows_before": None, "percent": {}, "columns": {}, "quarantine": []}
    samples: dict[str, Any] = {"inserted": [], "updated": [], "deleted": []}
    failed = table(
        **empty, samples=samples, verdict="failed", reason="found: no", note=None, **{"from": None, "to": None}
    )

    assert shown(capsys, failed) == "items: failed\n    found: no\n\n"
