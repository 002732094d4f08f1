"""Determines from which age on the data of a table is old, by the interval at which its snapshots used to come.

The age of data is that of the newest snapshot whose rows bronze has, not the time since a run looked at the source.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

OLD_WITHOUT_INTERVAL = timedelta(days=30)
SHORTEST, LONGEST = timedelta(days=1), timedelta(days=365)
_INTERVALS, _LAST = 3, 10


def old_after(snapshot_times: Iterable[datetime]) -> timedelta:
    """Return the age from which data is old: three times the median of the last ten intervals between its snapshots.

    It is at least a day and at most a year; 30 days if there are not three snapshots yet.

    >>> times = [datetime(2025, 10, day) for day in (1, 8, 15, 22)]
    >>> old_after(times), old_after(times[:2])
    (datetime.timedelta(days=21), datetime.timedelta(days=30))

    Args:
        snapshot_times: The times of the snapshots whose rows were taken, or found unchanged.
    """
    intervals = [later - earlier for earlier, later in pairwise(sorted(set(snapshot_times)))]
    if len(intervals) < 2:
        return OLD_WITHOUT_INTERVAL
    usual = timedelta(seconds=median(interval.total_seconds() for interval in intervals[-_LAST:]))
    return min(max(_INTERVALS * usual, SHORTEST), LONGEST)
