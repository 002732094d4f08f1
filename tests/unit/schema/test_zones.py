"""Local times become the instants that `zoneinfo` computes one by one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.schema import zones

ZONES = [
    "UTC",
    "America/Sao_Paulo",
    "Europe/Lisbon",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Pacific/Apia",
]
TIMES = st.one_of(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)),
    st.datetimes(datetime(1985, 1, 1), datetime(2035, 1, 1)),
    # around changes of the clock
    st.builds(
        lambda change, minutes: change + timedelta(minutes=minutes),
        st.sampled_from(
            [datetime(2018, 11, 4), datetime(2018, 2, 18), datetime(2011, 12, 30), datetime(2024, 3, 31, 1)]
        ),
        st.integers(-1500, 1500),
    ),
)


@pytest.mark.parametrize("zone", ZONES)
@given(times=st.lists(st.none() | TIMES, max_size=30))
def test_local_times_are_the_instants_of_zoneinfo(zone: str, times: list[datetime | None]) -> None:
    instants, skipped = zones.local_to_utc(pa.array(times, pa.timestamp("us")), zone)
    for time, instant, is_skipped in zip(times, instants.to_pylist(), skipped.to_pylist(), strict=True):
        if time is None:
            assert (instant, is_skipped) == (None, False)
            continue
        expected = time.replace(tzinfo=ZoneInfo(zone)).astimezone(timezone.utc)
        assert instant == expected.replace(tzinfo=None)
        assert is_skipped == (expected.astimezone(ZoneInfo(zone)).replace(tzinfo=None) != time)


@pytest.mark.parametrize("zone", ZONES)
@given(times=st.lists(st.none() | TIMES, max_size=30))
def test_instants_are_the_local_times_of_zoneinfo(zone: str, times: list[datetime | None]) -> None:
    local = zones.utc_to_local(pa.array(times, pa.timestamp("us")), zone).to_pylist()
    expected = [t and t.replace(tzinfo=timezone.utc).astimezone(ZoneInfo(zone)).replace(tzinfo=None) for t in times]
    assert local == expected


def test_times_that_no_python_date_holds_stay_as_they_are() -> None:
    extreme = pa.array([-63_000_000_000_000_000, 300_000_000_000_000_000], pa.int64()).cast(pa.timestamp("us"))
    assert zones.local_to_utc(extreme, "America/Sao_Paulo")[0].equals(extreme)
    assert zones.utc_to_local(extreme, "America/Sao_Paulo").equals(extreme)
