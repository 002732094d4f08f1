"""Computes the usual range of a table's figures from its accepted snapshots, for `guard: {learned: true}`.

    figures    rows read, inserts, updates and deletes of a snapshot
    range      the median of the last 30 accepted snapshots, and their median absolute deviation from it
    bound      the larger of 6 times that deviation and 1 % of the live rows

A snapshot is held if a figure lies further from the median than the bound. Medians, because one accepted incident, or
the first load, must not move the range. The figures come from the ledger; no rows are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.text import number_text

MIN_SNAPSHOTS = 8
"""The accepted snapshots before the first one that is judged, which is the ninth."""
MAX_SNAPSHOTS = 30
FIGURES = {"rows_read": "rows read", "inserted": "rows inserted", "updated": "rows updated", "deleted": "rows deleted"}
_DEVIATIONS = 6
_LIVE_ROWS_PER_ROW = 100  # 1 %, as a divisor: 0.01 * 2900 is less than 29


@dataclass(frozen=True)
class UsualRange:
    """The usual range of one figure.

    Attributes:
        median: The median of the figure.
        deviation: The median of the distances from it.
    """

    median: float
    deviation: float

    def bound(self, live_rows: int) -> float:
        """Return the largest distance from the median that is usual.

        Args:
            live_rows: The number of live rows before the snapshot.
        """
        return max(_DEVIATIONS * self.deviation, live_rows / _LIVE_ROWS_PER_ROW)

    def is_unusual(self, value: int, count_live_rows: Callable[[], int]) -> bool:
        """Return whether a figure lies further from the median than the bound.

        Args:
            value: The figure.
            count_live_rows: Counts the live rows before the snapshot; called only if the deviation does not decide.
        """
        distance = abs(value - self.median)
        return distance > _DEVIATIONS * self.deviation and distance > self.bound(count_live_rows())


@dataclass(frozen=True)
class PastFigures:
    """The figures of the last accepted snapshots of a table.

    Attributes:
        snapshots: The figures of each, oldest first; at most 30.
        is_read_again: Whether they are for a snapshot that was accepted before, and is read again by another
            configuration. It has few changes left then, so that only larger figures are unusual.
    """

    snapshots: Sequence[Mapping[str, int]] = ()
    is_read_again: bool = False

    @classmethod
    def of_snapshot(cls, history: LedgerHistory, time: datetime) -> PastFigures:
        """Return the figures to compare a snapshot with: those of older ones.

        Args:
            history: The ledger's rows of the table.
            time: The time of the snapshot.
        """
        accepted = _by_time(history)
        older = [accepted[other] for other in sorted(accepted) if other < time]
        return cls(_all_figures(older), time in accepted)

    @classmethod
    def of_table(cls, history: LedgerHistory) -> PastFigures:
        """Return the figures to compare the next snapshot of a table with.

        Args:
            history: The ledger's rows of the table.
        """
        accepted = _by_time(history)
        return cls(_all_figures([accepted[time] for time in sorted(accepted)]))

    def usual_ranges(self) -> dict[str, UsualRange]:
        """Return the usual range of each figure; none of a table with fewer than eight accepted snapshots."""
        if len(self.snapshots) < MIN_SNAPSHOTS:
            return {}
        return {name: _usual_range([figures[name] for figures in self.snapshots]) for name in FIGURES}

    def unusual_figures(self, figures: Mapping[str, int], count_live_rows: Callable[[], int]) -> list[str]:
        """Return why the figures of a snapshot are unusual, one text for each that is.

        Args:
            figures: The figures of the snapshot.
            count_live_rows: Counts the live rows before the snapshot.
        """
        reasons = []
        for name, usual in self.usual_ranges().items():
            value = figures[name]
            is_expected = self.is_read_again and value < usual.median
            if not is_expected and usual.is_unusual(value, count_live_rows):
                reasons.append(
                    f"{value} {FIGURES[name]}, further from {number_text(usual.median)}, the median of the last"
                    f" {len(self.snapshots)} accepted snapshots, than the bound"
                    f" {number_text(usual.bound(count_live_rows()))} (learned)"
                )
        return reasons


def _by_time(history: LedgerHistory) -> dict[datetime, LedgerEntry]:
    """Return the ledger row of each accepted snapshot that has counts.

    Of a snapshot that was accepted several times, such as after a change of the configuration, the newest row counts.
    A rebuild begins with a state, which is the change of no snapshot: the row before it counts.
    """
    return {e.snapshot_time: e for e in history.accepted if not e.is_base_state and e.rows_read is not None}


def _all_figures(entries: list[LedgerEntry]) -> list[dict[str, int]]:
    """Return the figures of the last accepted snapshots, oldest first."""
    pairs = list(zip([None, *entries], entries, strict=False))
    return [_figures(entry, before) for before, entry in pairs[-MAX_SNAPSHOTS:]]


def _figures(entry: LedgerEntry, before: LedgerEntry | None) -> dict[str, int]:
    """Return the figures of a snapshot; of a table with `missing`, keys that went missing in place of those deleted.

    Of these the ledger has a sum: `marks` are keys that went missing or are back with their old values, and the number
    of missing keys grows by those that went missing, less those that are back or have expired.
    """
    figures = {name: getattr(entry, name) or 0 for name in FIGURES}
    if entry.keeps_missing:
        growth = (entry.missing or 0) - ((before.missing or 0) if before else 0)
        figures["deleted"] = max(0, ((entry.marks or 0) + growth + (entry.deleted or 0)) // 2)
    return figures


def _usual_range(values: list[int]) -> UsualRange:
    middle = median(values)
    return UsualRange(middle, median(abs(value - middle) for value in values))


def describe_usual_figures(history: LedgerHistory) -> dict[str, Any]:
    """Return the usual range of each figure of a table's next snapshot, as `status` shows it.

    Args:
        history: The ledger's rows of the table.

    Returns:
        `snapshots`, the number of accepted ones that the ranges come from; `needed`, how many it takes; and `figures`,
        by name: `median`, and the bounds `low` and `high`. No figures if it takes more snapshots.
    """
    past, last = PastFigures.of_table(history), history.last_accepted
    # Rows of bronze that the quarantine of the last snapshot protects are not among these; the bound is 1 % of them.
    live_rows = sum((last.unchanged or 0, last.inserted or 0, last.updated or 0)) if last else 0
    figures = {}
    for name, usual in past.usual_ranges().items():
        bound = usual.bound(live_rows)
        figures[name] = {"median": usual.median, "low": max(usual.median - bound, 0), "high": usual.median + bound}
    return {"snapshots": len(past.snapshots), "needed": MIN_SNAPSHOTS, "figures": figures}
