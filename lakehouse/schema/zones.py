"""Converts local times of a zone to instants and back, for whole columns in the driver, as Spark converts them.

The rules are those of `java.time` and of `zoneinfo` with `fold=0`: of a local time that comes twice, the first one; a
local time that the zone skips is moved forward by the length of the gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_STEP = timedelta(days=1)  # no zone has changed its offset twice within a day since 1900
_FIRST_YEAR, _LAST_YEAR, _YEARS = 1900, 2100, 10  # times outside of these years are converted one by one

Micros = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Transitions:
    """The changes of a zone's offset within some years, in microseconds.

    Attributes:
        instants: When the offset changes, ascending.
        offsets: The offsets before the first change and after each one.
    """

    instants: Micros
    offsets: Micros

    @property
    def local_ends(self) -> Micros:
        """The local times from which on the next offset applies: after a skipped time, and after a repeated one."""
        return self.instants + np.maximum(self.offsets[:-1], self.offsets[1:])

    @property
    def local_gaps(self) -> Micros:
        """The local times from which on a time is skipped, if it is before `local_ends`; at the end, no time."""
        return np.append(self.instants + self.offsets[:-1], np.iinfo(np.int64).max)


def local_to_utc(local: pa.Array, zone: str) -> tuple[pa.Array, pa.Array]:
    """Convert local times to instants.

    Args:
        local: Local times, in microseconds.
        zone: The name of their zone.

    Returns:
        The instants, in microseconds of UTC without a zone; and whether the zone skips each local time. Null stays
        null, and is not skipped.
    """
    values, is_null = _to_numpy(local)
    known = _transitions(zone, values[~is_null])
    at = np.searchsorted(known.local_ends, values, side="right")
    instants, skipped = values - known.offsets[at], values >= known.local_gaps[at]
    for n in _outside(values, is_null):
        try:
            time = _EPOCH + int(values[n]) * _MICROSECOND
            instants[n] = values[n] - _offset(time, ZoneInfo(zone))
            skipped[n] = _is_skipped(time, ZoneInfo(zone))
        except OverflowError:  # outside the years 1 to 9999
            instants[n] = values[n]
    return _to_arrow(instants, is_null), pa.array(skipped & ~is_null)


def utc_to_local(instants: pa.Array, zone: str) -> pa.Array:
    """Convert instants to local times.

    Args:
        instants: Instants, in microseconds of UTC without a zone.
        zone: The name of the zone.
    """
    values, is_null = _to_numpy(instants)
    known = _transitions(zone, values[~is_null])
    local = values + known.offsets[np.searchsorted(known.instants, values, side="right")]
    for n in _outside(values, is_null):
        try:
            time = (_EPOCH + int(values[n]) * _MICROSECOND).replace(tzinfo=timezone.utc)
            local[n] = values[n] + _micros(time.astimezone(ZoneInfo(zone)).utcoffset())
        except OverflowError:  # within a day of the year 1 or 9999
            local[n] = values[n]
    return _to_arrow(local, is_null)


def _to_numpy(times: pa.Array) -> tuple[Micros, npt.NDArray[np.bool_]]:
    is_null = times.is_null().to_numpy(zero_copy_only=False)
    return times.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).copy(), is_null


def _to_arrow(values: Micros, is_null: npt.NDArray[np.bool_]) -> pa.Array:
    return pa.array(values, mask=is_null).cast(pa.timestamp("us"))


def _outside(values: Micros, is_null: npt.NDArray[np.bool_]) -> Any:
    """Return the positions of the values that `_transitions` does not cover."""
    first, last = (_micros(datetime(year, 1, 2) - _EPOCH) for year in (_FIRST_YEAR, _LAST_YEAR - 1))
    return np.flatnonzero(~is_null & ((values < first) | (values >= last)))


def _transitions(zone: str, values: Micros) -> _Transitions:
    """Return the changes of a zone's offset in the years of some times, and in a day before and after them."""
    days = (
        [np.clip(bound // _micros(_STEP), -30_000, 60_000) for bound in (values.min(), values.max())]
        if len(values)
        else [0, 0]
    )
    first, last = ((_EPOCH + timedelta(days=int(day) + add)).year for day, add in zip(days, (-1, 1), strict=True))
    first, last = max(first, _FIRST_YEAR) // _YEARS * _YEARS, min(last, _LAST_YEAR - 1)
    parts = [_transitions_from(zone, year) for year in range(first, max(first, last) + 1, _YEARS)]
    return _Transitions(
        np.concatenate([part.instants for part in parts]),
        np.concatenate([parts[0].offsets[:1], *(part.offsets[1:] for part in parts)]),
    )


@lru_cache(maxsize=256)
def _transitions_from(zone: str, year: int) -> _Transitions:
    """Return the changes of a zone's offset in `_YEARS` years."""
    info = ZoneInfo(zone)
    time, end = (datetime(y, 1, 1, tzinfo=timezone.utc) for y in (year, year + _YEARS))
    instants, offsets = [], [_utc_offset(time, info)]
    while time < end:
        following = min(time + _STEP, end)
        if (offset := _utc_offset(following, info)) != offsets[-1]:
            low, high = time, following
            while high - low > timedelta(seconds=1):
                middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
                low, high = (middle, high) if _utc_offset(middle, info) == offsets[-1] else (low, middle)
            instants.append(_micros(high.replace(tzinfo=None) - _EPOCH))
            offsets.append(offset)
        time = following
    return _Transitions(np.array(instants, np.int64), np.array(offsets, np.int64))


def _utc_offset(time: datetime, zone: ZoneInfo) -> int:
    return _micros(time.astimezone(zone).utcoffset())


def _offset(local: datetime, zone: ZoneInfo) -> int:
    return _micros(local.replace(tzinfo=zone).utcoffset())


def _is_skipped(local: datetime, zone: ZoneInfo) -> bool:
    try:
        back = local.replace(tzinfo=zone).astimezone(timezone.utc).astimezone(zone)
    except OverflowError:
        return False
    return back.replace(tzinfo=None) != local


def _micros(duration: timedelta | None) -> int:
    assert duration is not None
    return duration // _MICROSECOND
