"""What a reset of a table with a change feed requires. No JVM."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from lakehouse.errors import ConfigError
from lakehouse.ingest import require_landed_events
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)


def test_a_reset_is_refused_once_events_are_in_raw_only(tmp_path: Path) -> None:
    lake, file = Lake.from_root(str(tmp_path / "lake")), tmp_path / "t.csv"
    file.write_text("id,seq\n", encoding="utf-8")
    times = [FIRST + timedelta(days=day) for day in range(2)]
    landed = [landing.land_snapshot(lake, "t", time, [file]) for time in times]
    entries = [LedgerEntry("t", n, time, "", "accepted", kind="feed") for n, time in enumerate(times, start=1)]

    require_landed_events(lake, "t", LedgerHistory(entries))
    landing.expire_snapshot(landed[0], FIRST)

    with pytest.raises(ConfigError, match="1 batch of t are in raw only: 20250101_000000"):
        require_landed_events(lake, "t", LedgerHistory(entries))
