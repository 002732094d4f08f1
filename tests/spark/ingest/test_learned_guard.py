"""When `guard: {learned: true}` holds a snapshot, from its counts and the ledger. No JVM."""

from __future__ import annotations

import json
import runpy
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.config import Guard
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.guards import hold_reason
from lakehouse.lake.ledger import REBUILT, LedgerEntry, LedgerHistory
from lakehouse.lake.usual_range import FIGURES, PastFigures, describe_usual_figures
from lakehouse.runner.context import open_run
from lakehouse.runner.stages import run_stages

REPOSITORY = Path(__file__).parents[3]
START = datetime(2025, 1, 1, tzinfo=timezone.utc)
LEARNED = Guard(min_rows=0, max_deleted=1, learned=True)


COUNTS = {"rows_read": 1000, "inserted": 10, "updated": 20, "deleted": 10, "unchanged": 970, "quarantined": 0}


def accepted(day: int, **values: Any) -> LedgerEntry:
    """Return the ledger row of a day: its sequence is the day's number unless given."""
    fields = {"sequence": day, "status": "accepted", "kind": "cdc", "duplicates": 0} | COUNTS | values
    return LedgerEntry("t", snapshot_time=START + timedelta(days=day), fingerprint="", **fields)


def counts_of(live: int = 1000, quarantined: int = 0, **others: int) -> Counts:
    """Return the counts of an ordinary snapshot, but for these."""
    figures = {name: others.get(name, COUNTS[name]) for name in FIGURES}
    unchanged = live - figures["updated"] - figures["deleted"]
    return Counts(**figures, unchanged=unchanged, quarantined=quarantined, duplicates=0, conflicts=0, unreadable_keys=0)


def reason_of(counts: Counts, *days: LedgerEntry, day: int = 100) -> str | None:
    past = PastFigures.of_snapshot(LedgerHistory([*days]), START + timedelta(days=day))
    return hold_reason(counts, LEARNED, lambda: 1000, past)


EIGHT = tuple(accepted(day) for day in range(1, 9))


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (counts_of(), None),
        (counts_of(updated=30), None),  # 1 % of 1000 live rows further than 20
        (counts_of(updated=31), "31 rows updated, further from 20, the median of the last 8 accepted snapshots, than"),
        (counts_of(inserted=21), "21 rows inserted, further from 10, "),
        (counts_of(deleted=0), None),
        (counts_of(deleted=21), "21 rows deleted, further from 10, "),
        (counts_of(rows_read=989), "989 rows read, further from 1000, "),
        (counts_of(rows_read=2000), "2000 rows read, further from 1000, "),
        (counts_of(updated=20, live=2900), None),
        (counts_of(updated=49, live=2900), None),  # exactly 1 %, which 0.01 * 2900 is below
        (counts_of(updated=50, live=2900), "50 rows updated, "),
    ],
)
def test_a_snapshot_is_held_beyond_the_bound_and_not_at_it(counts: Counts, reason: str | None) -> None:
    found = reason_of(counts, *EIGHT)

    assert found is None if reason is None else found is not None and found.startswith(reason)


def test_the_reason_has_the_figure_the_median_and_the_bound() -> None:
    assert reason_of(counts_of(rows_read=500, deleted=510), *EIGHT) == (
        "500 rows read, further from 1000, the median of the last 8 accepted snapshots, than the bound 10 (learned); "
        "510 rows deleted, further from 10, the median of the last 8 accepted snapshots, than the bound 10 (learned)"
    )


def test_the_ninth_accepted_snapshot_is_the_first_that_is_judged() -> None:
    unusual = counts_of(updated=900)

    assert reason_of(unusual, *EIGHT[:7]) is None
    assert reason_of(unusual, *EIGHT) is not None


@pytest.mark.parametrize("status", ["held", "rejected", "unchanged"])
def test_only_accepted_snapshots_count(status: str) -> None:
    other = accepted(8, status=status, sequence=None, updated=900)

    assert reason_of(counts_of(updated=900), *EIGHT[:7], other) is None


def test_an_approved_snapshot_counts_and_the_newest_row_of_a_time() -> None:
    held, approved = accepted(8, status="held", sequence=None), accepted(8)
    again = [accepted(day, sequence=8 + day, updated=500) for day in range(1, 9)]  # after a change of the configuration

    assert reason_of(counts_of(updated=900), *EIGHT[:7], held, approved) is not None
    assert reason_of(counts_of(updated=500), *EIGHT, *again) is None
    assert reason_of(counts_of(updated=20), *EIGHT, *again) is not None


def test_states_and_the_start_of_a_rebuild_do_not_count() -> None:
    state = accepted(7, kind="full-load", updated=900)  # from `expire`: of a sequence that has a row
    rebuild = accepted(1, kind="full-load", sequence=9, inserted=1000, updated=0, reason=f"{REBUILT}: x")

    assert reason_of(counts_of(updated=900), *EIGHT[:7], state) is None
    assert reason_of(counts_of(), *EIGHT, rebuild) is None
    history = LedgerHistory([*EIGHT, state, rebuild])
    assert PastFigures.of_table(history).snapshots == PastFigures.of_table(LedgerHistory([*EIGHT])).snapshots


def test_the_last_thirty_snapshots_count() -> None:
    old = [accepted(day, updated=500) for day in range(1, 40)]
    new = [accepted(day) for day in range(40, 70)]

    assert len(PastFigures.of_table(LedgerHistory([*old, *new])).snapshots) == 30
    assert reason_of(counts_of(updated=500), *old, *new) is not None


def test_an_accepted_snapshot_that_is_read_again_is_held_only_for_more_than_usual() -> None:
    nothing_left = counts_of(inserted=0, updated=0, deleted=0)
    days = [accepted(day, updated=500) for day in range(1, 11)]

    assert reason_of(nothing_left, *days, day=10) is None
    assert reason_of(nothing_left, *days, day=11) is not None
    assert reason_of(counts_of(updated=900), *days, day=10) is not None


def test_live_rows_are_counted_once_and_only_if_the_deviation_does_not_decide() -> None:
    counted = []

    def count_live_rows() -> int:
        counted.append(1)
        return 1000

    usual, unusual = counts_of(quarantined=1, deleted=0), counts_of(quarantined=1, inserted=90, updated=90, deleted=0)
    past = PastFigures([{"rows_read": 1000, "inserted": 10, "updated": 20, "deleted": 0}] * 8)

    assert hold_reason(usual, LEARNED, count_live_rows, past) is None
    assert counted == []
    assert hold_reason(unusual, LEARNED, count_live_rows, past) is not None
    assert counted == [1]


VALUES = st.lists(st.integers(0, 2000), min_size=8, max_size=40)


@given(values=VALUES, value=st.integers(0, 4000), live=st.integers(0, 5000))
def test_the_rule_is_that_of_the_contract(values: list[int], value: int, live: int) -> None:
    last = values[-30:]
    middle = median(last)
    distances = median(abs(each - middle) for each in last)
    is_unusual = abs(value - middle) > max(6 * distances, live / 100)
    days = [accepted(day, updated=each) for day, each in enumerate(values, start=1)]
    usual = PastFigures.of_table(LedgerHistory(days)).usual_ranges()["updated"]

    assert usual.is_unusual(value, lambda: live) == is_unusual


def test_status_has_the_median_and_the_bounds_of_each_figure() -> None:
    usual = describe_usual_figures(LedgerHistory([*EIGHT]))

    assert usual["snapshots"] == 8
    assert usual["figures"]["rows_read"] == {"median": 1000, "low": 990, "high": 1010}
    assert usual["figures"]["deleted"] == {"median": 10, "low": 0, "high": 20}
    assert describe_usual_figures(LedgerHistory([*EIGHT[:7]])) == {"snapshots": 7, "needed": 8, "figures": {}}


def test_the_page_of_the_replay_is_what_the_command_prints() -> None:
    script = runpy.run_path(str(REPOSITORY / "bench/learned_guard.py"))

    written = (REPOSITORY / "docs/evidence/learned-guard.md").read_text(encoding="utf-8")
    assert written.partition(f"\n{script['REAL']}")[0] == script["page"]()  # behind it are results of real snapshots


def test_real_snapshots_that_landed_are_judged(tmp_path: Path) -> None:
    """Each of 24 changes two of 300 rows, but one changes a tenth and one none; two cannot be read."""
    rows = dict.fromkeys(range(300), 0)
    for day in range(1, 25):
        for key in range(30 if day == 15 else 0 if day == 20 else 2):
            rows[key] += 1
        texts = [*(f"{key},{value}" for key, value in rows.items()), *(["1,twice"] if day == 17 else [])]
        folder = tmp_path / "source" / f"202501{day:02}_000000"
        folder.mkdir(parents=True)
        (folder / "t.csv").write_text("\n".join(["id" if day == 18 else "id,v", *texts]), encoding="utf-8")
    table = {"file": "t.csv", "format": "csv", "schema": "id INT, v STRING", "keys": ["id"]}
    source = {"type": "files", "path": str(tmp_path / "source")}
    document = {"name": "real", "lake": str(tmp_path / "lake"), "source": source, "tables": {"t": table}}
    (tmp_path / "pipeline.json").write_text(json.dumps(document), encoding="utf-8")
    run_stages(open_run(tmp_path), ("extract",))
    script = runpy.run_path(str(REPOSITORY / "bench/learned_guard.py"))

    section = script["real_section"]({"example": tmp_path}, False)

    # 24 less the first eight, one with the same bytes and two that are not read.
    assert "| example | t | 2025-01-02 to 2025-01-24 | 300 | 13 | 1 | 0 | 2 | updated |" in section
    assert "| the file ends after half of its rows | 1 of 1 | 1 of 1 |" in section
    assert "| an old file: no row has changed | 0 of 1 | 0 of 1 |" in section
