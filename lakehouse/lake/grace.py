"""Decides about the keys that a snapshot lacks, for tables with `missing`. Pure: times and SQL, without Spark.

    present   the snapshot has a row of the key: accepted, or in quarantine
    missing   accepted snapshots lack the key, and its grace has not ended: its row stays, with the time of the first
    marked    its grace has ended, and `then: mark` keeps its row, which is no live row any more

The rule is one SQL expression, which DuckDB and Spark read alike, so that both comparisons of a snapshot apply it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from lakehouse.lake.cdc import DELETE, GOES_MISSING, INSERT, IS_BACK, UNCHANGED, UPDATE
from lakehouse.lake.slices import Slice

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST_TIME = datetime.min.replace(tzinfo=timezone.utc)

PROTECTED = "protected"
"""A row of the key goes to quarantine, so bronze keeps the row that it has."""
PROTECTED_BACK = "protected back"
"""The same of a key that was missing: it is back, with the row that bronze has."""
STILL_MISSING = "missing"
"""The key is missing, and its grace has not ended. Nothing is written."""
STILL_MARKED = "marked"
"""The key is marked as deleted, and stays so. Nothing is written."""

OTHER_SLICE = "other slice"
"""The snapshot lacks the key, and says nothing about the slice of its row. Nothing is written."""

FROM_STATE = (DELETE, GOES_MISSING, IS_BACK, PROTECTED_BACK)
"""The outcomes whose row in the change set has the values of the table's row."""
WITHOUT_ROW = (STILL_MISSING, STILL_MARKED, OTHER_SLICE)
"""The outcomes of keys that the snapshot lacks, for which the change set has no row."""


@dataclass(frozen=True)
class Grace:
    """The treatment of the keys that one snapshot lacks.

    Attributes:
        time: The time of the snapshot.
        bound: The grace of keys that are missing since this time, or since an earlier one, has ended; None: of none.
        keeps_marked: Whether the row of such a key stays, marked as deleted.
        bound_in: Returns the bound of the keys of one slice, for which only the snapshots that contain it count; None:
            the snapshots are of the whole table.
    """

    time: datetime
    bound: datetime | None
    keeps_marked: bool = False
    bound_in: Callable[[Slice], datetime | None] | None = None

    def bounds(self, slices: Iterable[Slice]) -> dict[Slice, datetime | None]:
        """Return the bound of the keys of each slice.

        Args:
            slices: The slices of the snapshot.
        """
        return {each: self.bound_in(each) if self.bound_in else self.bound for each in slices}


def expiry_bound(after: int | timedelta, time: datetime, taken: Iterable[datetime]) -> datetime | None:
    """Return the latest time since which a key can be missing for its grace to end at a snapshot; None: there is none.

    >>> days = [datetime(2025, 1, day) for day in (1, 2, 3, 4)]
    >>> expiry_bound(3, days[3], days[:3])
    datetime.datetime(2025, 1, 2, 0, 0)

    Args:
        after: The number of snapshots in a row that have to lack a key, this one included; or a duration.
        time: The time of the snapshot.
        taken: The times of the snapshots of the table that were accepted or unchanged.
    """
    if isinstance(after, timedelta):
        return time - after if time - _FIRST_TIME > after else None
    if after <= 1:
        return time
    earlier = sorted(each for each in set(taken) if each < time)
    return earlier[1 - after] if len(earlier) >= after - 1 else None


def epoch_micros(time: datetime) -> int:
    """Return a time in microseconds since 1970, exactly.

    Args:
        time: The time, with its zone.
    """
    return (time - _EPOCH) // timedelta(microseconds=1)


def outcome_sql(keeps_marked: bool) -> str:
    """Return the SQL for the outcome of a key: I, U, =, D, M, R, or one of this module.

    It reads these columns of a key's row; all but `_cdc_since` are true or false, and not null.

        _cdc_accepted     whether the snapshot has an accepted row
        _cdc_quarantined  whether a row of the snapshot with the key goes to quarantine
        _cdc_known        whether the table has a row
        _cdc_same         whether both rows are equal
        _cdc_since        since when the key has been missing, as the table has it; null: it is not, or there is no row
        _cdc_marked       whether the table's row is marked as deleted
        _cdc_due          whether the grace of the key has ended, if the snapshot lacks it
        _cdc_contained    whether the snapshot contains the slice of the table's row

    Args:
        keeps_marked: Whether the row of a key whose grace has ended stays, marked as deleted.
    """
    return f"""CASE
        WHEN _cdc_quarantined THEN
            CASE WHEN _cdc_since IS NOT NULL AND NOT _cdc_marked THEN '{PROTECTED_BACK}' ELSE '{PROTECTED}' END
        WHEN _cdc_accepted AND (NOT _cdc_known OR _cdc_marked) THEN '{INSERT}'
        WHEN _cdc_accepted AND NOT _cdc_same THEN '{UPDATE}'
        WHEN _cdc_accepted THEN CASE WHEN _cdc_since IS NOT NULL THEN '{IS_BACK}' ELSE '{UNCHANGED}' END
        WHEN NOT _cdc_contained THEN CASE WHEN _cdc_marked THEN '{STILL_MARKED}'
            WHEN _cdc_since IS NOT NULL THEN '{STILL_MISSING}' ELSE '{OTHER_SLICE}' END
        WHEN _cdc_marked THEN '{STILL_MARKED if keeps_marked else DELETE}'
        WHEN _cdc_due THEN '{DELETE}'
        WHEN _cdc_since IS NULL THEN '{GOES_MISSING}'
        ELSE '{STILL_MISSING}'
    END"""


def operation_sql(outcome: str) -> str:
    """Return the SQL for the operation of a row of the change set, by its outcome.

    Args:
        outcome: The SQL for the outcome.
    """
    return f"CASE {outcome} WHEN '{PROTECTED_BACK}' THEN '{IS_BACK}' ELSE {outcome} END"


def since_sql(outcome: str, now: str, keeps_marked: bool) -> str:
    """Return the SQL for the time since which a key is missing after its outcome; null: it is not, or has no row.

    Args:
        outcome: The SQL for the outcome.
        now: The SQL for the time of the snapshot.
        keeps_marked: As in `outcome_sql`.
    """
    marked = f" WHEN '{DELETE}' THEN coalesce(_cdc_since, {now})" if keeps_marked else ""
    return f"CASE {outcome} WHEN '{GOES_MISSING}' THEN {now}{marked} END"
