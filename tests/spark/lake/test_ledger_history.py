"""A history that grows row by row is that of all rows; no session is needed."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from lakehouse.lake.ledger import LedgerEntry, LedgerHistory

FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)


def random_entry(history: LedgerHistory, rng: random.Random) -> LedgerEntry:
    status = rng.choice(["accepted", "accepted", "unchanged", "held", "rejected"])
    last = history.accepted[-1].sequence or 0 if history.accepted else 0
    sequence = (last + 1 if rng.random() < 0.9 else rng.randint(1, last + 2)) if status == "accepted" else None
    kind, reason = ("full-load" if rng.random() < 0.2 else "cdc") if sequence else None, None
    if sequence and rng.random() < 0.05:
        reason = f"numbered again from {rng.randint(1, last + 1)}: a test"
    time = FIRST + timedelta(days=rng.randint(0, 40))
    return LedgerEntry("t", sequence, time, "f", status, kind, reason=reason)


def content(history: LedgerHistory) -> Any:
    at = {day: history.entry_at(FIRST + timedelta(days=day)) for day in range(41)}
    later = {day: history.superseding(FIRST + timedelta(days=day)) for day in range(41)}
    names = ("entries", "accepted", "base_state", "rebuild_start", "replay_starts", "confirmed", "newest_entry")
    return at, later, [getattr(history, name) for name in names]


@pytest.mark.parametrize("seed", range(20))
def test_a_history_that_grows_is_the_history_of_all_rows(seed: int) -> None:
    rng, history = random.Random(seed), LedgerHistory([])
    for _ in range(40):
        before = content(history)
        grown = history.with_entry(random_entry(history, rng))
        assert content(history) == before, "the shorter history stays as it was"
        assert content(grown) == content(LedgerHistory(list(grown.entries)))
        history = grown
