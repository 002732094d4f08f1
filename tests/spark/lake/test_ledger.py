"""Tests how the rows of a table in the ledger are interpreted, without a JVM."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from lakehouse.lake.ledger import LedgerEntry, LedgerHistory

DAY = timedelta(days=1)
FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)


def accepted(sequence: int, time: datetime, run: str, recorded: datetime = FIRST) -> LedgerEntry:
    return LedgerEntry("items", sequence, time, "", "accepted", run_id=run, recorded_at=recorded)


def test_the_first_of_two_rows_of_a_sequence_counts_whatever_their_clocks() -> None:
    ours, theirs = accepted(2, FIRST + DAY, "ours"), accepted(2, FIRST + DAY, "theirs", FIRST - DAY)
    history = LedgerHistory([accepted(1, FIRST, "ours"), ours, theirs])

    assert [entry.run_id for entry in history.accepted] == ["ours", "ours"]
    assert history.entry_at(FIRST + DAY) is ours
    assert history.last_accepted is ours


def test_the_snapshot_of_a_void_row_is_undecided() -> None:
    """Two drivers accepted different snapshots as one sequence: that of the second one is decided again."""
    void = accepted(2, FIRST + 2 * DAY, "theirs")
    history = LedgerHistory([accepted(1, FIRST, "ours"), accepted(2, FIRST + DAY, "ours"), void])

    assert history.entry_at(FIRST + 2 * DAY) is None
    assert history.newest_entry == history.last_accepted == accepted(2, FIRST + DAY, "ours")


def test_the_newest_row_of_a_snapshot_counts() -> None:
    held = replace(accepted(2, FIRST + DAY, "ours"), sequence=None, status="held")
    history = LedgerHistory([accepted(1, FIRST, "ours"), held])

    assert history.held_entry is held
    assert history.with_entry(accepted(2, FIRST + DAY, "ours")).held_entry is None


def test_a_base_state_replaces_change_sets_but_no_decisions() -> None:
    sets = [replace(accepted(n, FIRST + n * DAY, "ours"), kind="cdc", path=f"cdc/{n}") for n in range(1, 6)]
    older, newer = (replace(sets[n - 1], kind="full-load", path=f"state/{n}") for n in (2, 4))
    theirs = replace(newer, run_id="theirs", path="state/theirs")
    history = LedgerHistory([*sets, older, newer, theirs])

    assert history.accepted == sets
    assert history.base_state is newer
    assert history.entries_to_fold == [newer, sets[4]]
    assert [history.is_dropped(entry) for entry in sets] == [True, True, True, True, False]
    assert history.entry_at(FIRST + 4 * DAY) is sets[3]
    assert (history.last_accepted, history.newest_entry) == (sets[4], sets[4])
    assert LedgerHistory(sets).entries_to_fold == sets


def test_a_replay_replaces_all_sequences_from_its_start_on() -> None:
    sets = [replace(accepted(n, FIRST + n * DAY, "ours"), kind="cdc") for n in range(1, 5)]
    state = replace(sets[2], kind="full-load", path="state/3")
    reason = "numbered again from 2: 20250101_120000 was put in its place"
    late = replace(accepted(2, FIRST + DAY + DAY / 2, "replay"), kind="cdc", reason=reason)
    moved = [replace(entry, sequence=(entry.sequence or 0) + 1, run_id="replay") for entry in sets[1:3]]
    same = replace(sets[3], sequence=None, status="unchanged", run_id="replay")
    history = LedgerHistory([*sets, state, late, *moved, same])

    assert history.accepted == [sets[0], late, *moved]
    assert history.replay_starts == [2]
    assert (history.base_state, history.entry_at(FIRST + 4 * DAY)) == (None, same)
    assert history.with_entry(accepted(5, FIRST + 5 * DAY, "ours")).last_accepted == accepted(
        5, FIRST + 5 * DAY, "ours"
    )
    assert history.before(FIRST + 2 * DAY).accepted == [sets[0], late]


def test_a_row_that_names_no_sequence_begins_no_replay() -> None:
    text = "columns that are not in the schema are ignored: numbered again from 1: x"

    assert replace(accepted(1, FIRST, "ours"), reason=text).replay_start is None
    assert replace(accepted(1, FIRST, "ours"), reason="numbered again from one: x").replay_start is None
