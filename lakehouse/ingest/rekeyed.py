"""Finds rows that a snapshot deletes under one key and inserts under another: the source may have renumbered them.

Such a pair is equal in all columns but the key, those of `ignore`, `updated_at` and masked ones. Of 4 to 30 columns
that are left, one may differ. Nothing is merged by this: it is only reported, without values of rows.

The cost is bounded: of more than 10,000 deleted or inserted rows, those with some hashes are looked at, for pairs that
are equal in all of these columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lakehouse.config import Table
from lakehouse.ingest.comparison import Comparison, SparkComparison
from lakehouse.ingest.feed_comparison import FeedComparison
from lakehouse.lake.cdc import DELETE, INSERT
from lakehouse.text import counted

_MAX_ROWS = 10_000  # of each kind
_FEWEST_COLUMNS, _MOST_COLUMNS = 4, 30  # of which one may differ
_MIN_SHARE = 10  # one in ten: fewer may be equal by chance
_MAX_SPARK_BYTES = 64 << 20  # Spark would read a larger file once more

Signature = tuple[int | None, ...]
"""Hashes of a row: of all compared columns, then without each of them; None if all values are null."""


def rekeyed_text(comparison: Comparison, is_held: bool) -> str | None:
    """Return how many deleted rows of a snapshot are back under another key, or None if few are.

    Args:
        comparison: The comparison of the snapshot.
        is_held: Whether it is held, which is worth another reading of its files.
    """
    counts, table = comparison.counts, comparison.context.config
    if isinstance(comparison, FeedComparison) or table.counts_rows or not (counts.deleted and counts.inserted):
        return None
    if isinstance(comparison, SparkComparison) and comparison.snapshot.size > _MAX_SPARK_BYTES and not is_held:
        return None
    columns = compared_columns(table)
    if not columns:
        return None
    most = max(counts.deleted, counts.inserted)
    column_sets = [columns]
    if most <= _MAX_ROWS and _FEWEST_COLUMNS <= len(columns) <= _MOST_COLUMNS:
        column_sets += [[other for other in columns if other != column] for column in columns]
    rows = comparison.row_signatures(column_sets, one_in=-(-most // _MAX_ROWS))
    deleted = [signature for operation, signature in rows if operation == DELETE]
    found = count_pairs(deleted, [signature for operation, signature in rows if operation == INSERT])
    if not found or found * _MIN_SHARE < len(deleted):
        return None
    sample = "" if len(deleted) == counts.deleted else f" (a sample of {counts.deleted})"
    verb = "is" if found == 1 else "are"
    return f"{found} of {counted(len(deleted), 'deleted row')}{sample} {verb} back under another id"


def compared_columns(table: Table) -> list[str]:
    """Return the columns in which a row under another key has to be equal.

    Args:
        table: The table's configuration.
    """
    masked = (name for name, action in table.pii.items() if action == "mask")
    others = {*table.keys, *table.ignore, *filter(None, [table.updated_at]), *masked}
    return [column.name for column in table.stored_columns if column.name not in others]


def count_pairs(deleted: Sequence[Signature], inserted: Sequence[Signature]) -> int:
    """Return how many deleted rows have an inserted one with an equal hash in the same place.

    The number does not depend on the order of the rows. Of rows that are equal in all columns, each is used once.

    >>> count_pairs([(1, 7), (2, 8), (3, 9)], [(1, 7), (4, 8)])
    2

    Args:
        deleted: The hashes of each deleted row.
        inserted: The hashes of each inserted row.
    """
    of_deleted, of_inserted = (_without_null(rows) for rows in (deleted, inserted))
    equal = of_deleted & of_inserted
    remaining, others = of_deleted - equal, of_inserted - equal
    places = range(1, len(deleted[0])) if deleted else ()
    known = {(place, value) for signature in others for place in places if (value := signature[place]) is not None}
    alike = sum(
        count for signature, count in remaining.items() if any((place, signature[place]) in known for place in places)
    )
    return equal.total() + min(alike, others.total())


def _without_null(rows: Sequence[Signature]) -> Counter[Signature]:
    """Return the number of rows of each signature; rows without any value are equal to nothing."""
    return Counter(signature for signature in rows if signature[0] is not None)
