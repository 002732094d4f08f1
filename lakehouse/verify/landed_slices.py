"""Checks I1 of a table with `slice_by`: each slice of bronze against the newest accepted snapshot that contains it.

A key has the row of the newest accepted snapshot that has the key, unless a later one contains the slice of that row
and lacks the key. So all snapshots from the oldest that is the newest of a slice are read; those whose files are gone,
or that were read by another configuration, end the walk back, and their slices are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.lake.cdc import MISSING_SINCE
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.slice_columns import slice_in_table
from lakehouse.lake.slices import Slice, Slices
from lakehouse.spark.persist import persist_rows
from lakehouse.spark.session import local_frame
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name
from lakehouse.storage.prepare_files import readable_snapshot
from lakehouse.text import counted
from lakehouse.verify.check import Check, Claim, Side, compare_rows, quoted_column
from lakehouse.verify.checked_table import CheckedTable
from lakehouse.verify.counted_rows import compare_counted, delivered_rows, unread_reason
from lakehouse.verify.landed_rows import (
    NO_KEY,
    compare_with_change_sets,
    count_hidden_rows,
    fill_from_bronze,
    known_keys_of,
    landed_rows,
    one_row_per_key,
    quarantined_keys,
)
from lakehouse.verify.missing_keys import missing_checks
from lakehouse.verify.scd2 import scd2_checks
from lakehouse.verify.second_reader import UNREADABLE

_MAX_FILES = 500  # Spark plans each of them
_SEQUENCE, _NEWEST, _SLICE = "_cdc_snapshot", "_cdc_newest", "_cdc_slice"


@dataclass
class _Walk:
    """The accepted snapshots that determine bronze, newest first.

    Attributes:
        snapshots: The snapshots, with their rows of the ledger.
        newest: The sequence of the newest snapshot that contains a slice.
        whole: The sequence of the newest snapshot that was the whole table; None if there is none among them.
        end_reason: Why older snapshots are not read; empty if none is needed.
    """

    snapshots: list[tuple[LedgerEntry, LandedSnapshot]] = field(default_factory=list)
    newest: dict[Slice, int] = field(default_factory=dict)
    whole: int | None = None
    end_reason: str = ""


def slice_checks(table: CheckedTable) -> Iterator[Check]:
    """Check the slices of bronze against the accepted snapshots, and keys in their quarantine against the change sets.

    Args:
        table: A table with `slice_by`.
    """
    same = Claim("I1", "each slice of bronze = the newest accepted snapshot that contains it", table.name)
    in_quarantine = Claim("I1", "keys in quarantine keep their row", table.name)
    if lag_reason := table.lag_reason:
        yield same.not_checkable(lag_reason)
        return
    walk = _walk_back(table)
    if not walk.snapshots:
        yield same.not_checkable(walk.end_reason)
        yield in_quarantine.not_checkable(walk.end_reason)
    else:
        bronze = table.read_current_rows().where(F.col(MISSING_SINCE).isNull()).drop(MISSING_SINCE)
        since = walk.snapshots[-1][0].sequence
        with ExitStack() as stack:
            if table.config.counts_rows:
                yield _compare_without_key(same, table, walk, bronze, stack)
                yield in_quarantine.holds(NO_KEY)
            else:
                quarantined = stack.enter_context(persist_rows(quarantined_keys(table, since)))
                yield _compare(same, table, walk, bronze, quarantined, stack)
                yield compare_with_change_sets(in_quarantine, table, bronze, known_keys_of(quarantined))
    yield from missing_checks(table)
    if table.config.scd == 2:
        yield from scd2_checks(table)


def _walk_back(table: CheckedTable) -> _Walk:
    """Return the snapshots to read, from the newest to the one that is the newest of the last slice."""
    walk = _Walk()
    if table.config.format != "csv":
        walk.end_reason = f"there is no second reader of {table.config.format}"
        return walk
    file_count = 0
    for entry in reversed(table.accepted):
        stamp, sequence = snapshot_name(entry.snapshot_time), entry.sequence or 0
        snapshot = landing.find_snapshot(table.lake, table.name, entry.snapshot_time)
        if snapshot is None or snapshot.expired:
            walk.end_reason = f"the files of {stamp} are no longer in landing"
        elif landing.fingerprint(snapshot, table.config, table.pipeline.timezone) != entry.fingerprint:
            walk.end_reason = f"{stamp} was read by another configuration"
        elif (file_count := file_count + len(snapshot.files)) > _MAX_FILES and walk.snapshots:
            walk.end_reason = f"there are more than {_MAX_FILES} files"
        if walk.end_reason:
            return walk
        assert snapshot is not None
        walk.snapshots.append((entry, snapshot))
        if entry.slices is None:
            walk.whole = sequence
            return walk
        for each in Slices.from_json(entry.slices).values:
            walk.newest.setdefault(each, sequence)
    return walk


def _compare(
    claim: Claim, table: CheckedTable, walk: _Walk, bronze: DataFrame, quarantined: DataFrame, stack: ExitStack
) -> Check:
    keys, known_keys = table.config.keys, known_keys_of(quarantined)
    of_snapshots = []
    for entry, snapshot in walk.snapshots:
        files = stack.enter_context(readable_snapshot(table.lake, table.config, snapshot))
        rows = _with_newest(landed_rows(table, files), table, quarantined)
        of_snapshots.append(rows.withColumn(_SEQUENCE, F.lit(entry.sequence)))
    rows = stack.enter_context(persist_rows(reduce(DataFrame.unionByName, of_snapshots)))
    newest = rows.groupBy(*map(quoted_column, keys)).agg(F.max(_SEQUENCE).alias(_SEQUENCE))
    expected = rows.join(newest, on=[*keys, _SEQUENCE], how="left_semi")
    expected = _with_slice(expected, table, walk).where(F.col(_SEQUENCE) == F.col(_NEWEST))
    actual = _with_slice(bronze, table, walk).where(F.col(_NEWEST).isNotNull())
    if hidden := count_hidden_rows(table, walk.snapshots[-1][0].sequence):
        readable = expected.where(F.col(UNREADABLE).isNull())
        unreadable = expected.where(F.col(UNREADABLE).isNotNull()).join(bronze, on=keys, how="left_semi")
        expected = readable.unionByName(unreadable.join(readable, on=keys, how="left_anti"))
    details = (
        f"{counted(len(walk.newest), 'slice')} in {counted(len(walk.snapshots), 'snapshot')};"
        f" {counted(known_keys.count(), 'key')} in quarantine"
    )
    if hidden:
        details += f"; {counted(hidden, 'record')} not looked for, because quarantine hides their keys"
    if walk.end_reason and (others := bronze.count() - actual.count()):
        details += f"; {counted(others, 'row')} of other slices not compared, because {walk.end_reason}"
    if partly_compared := expected.where(F.col(UNREADABLE).isNotNull()).count():
        expected = fill_from_bronze(expected, bronze, table)
        details += (
            f"; {counted(partly_compared, 'row')} not compared in all columns, because this reader cannot read them"
        )
    columns = [quoted_column(name) for name in table.schema.names if name not in table.config.ignore]
    expected, actual = (side.join(known_keys, on=keys, how="left_anti").select(*columns) for side in (expected, actual))
    return compare_rows(claim, Side("the snapshots", expected), Side("bronze", actual), details)


def _compare_without_key(claim: Claim, table: CheckedTable, walk: _Walk, bronze: DataFrame, stack: ExitStack) -> Check:
    of_snapshots = []
    for entry, snapshot in walk.snapshots:
        files = stack.enter_context(readable_snapshot(table.lake, table.config, snapshot))
        of_snapshots.append(delivered_rows(table, files).withColumn(_SEQUENCE, F.lit(entry.sequence)))
    rows = stack.enter_context(persist_rows(reduce(DataFrame.unionByName, of_snapshots)))
    if reason := unread_reason(table, rows, [entry for entry, _ in walk.snapshots]):
        return claim.not_checkable(reason)
    expected = _with_slice(rows, table, walk).where(F.col(_SEQUENCE) == F.col(_NEWEST))
    actual = _with_slice(bronze, table, walk).where(F.col(_NEWEST).isNotNull())
    details = f"{counted(len(walk.newest), 'slice')} in {counted(len(walk.snapshots), 'snapshot')}"
    return compare_counted(claim, table, expected, actual, details)


def _with_newest(rows: DataFrame, table: CheckedTable, quarantined: DataFrame) -> DataFrame:
    """Return one row for each key of a snapshot, without those that may have gone to quarantine."""
    is_unreadable = F.col(UNREADABLE).isNotNull()
    unreadable = rows.where(is_unreadable).join(quarantined, on=table.config.keys, how="left_anti")
    return one_row_per_key(table.config, rows.where(~is_unreadable).unionByName(unreadable))


def _with_slice(rows: DataFrame, table: CheckedTable, walk: _Walk) -> DataFrame:
    """Return rows with the sequence of the newest snapshot that contains their slice; null if none is known."""
    known = [(list(each), sequence) for each, sequence in sorted(walk.newest.items())]
    frame = local_frame(table.spark, f"{_SLICE} ARRAY<STRING>, {_NEWEST} INT", known)
    joined = rows.withColumn(_SLICE, slice_in_table(table.config)).join(F.broadcast(frame), on=_SLICE, how="left")
    return joined.withColumn(_NEWEST, F.coalesce(_NEWEST, F.lit(walk.whole))).drop(_SLICE)
