"""Compares the rows of a snapshot with the current rows of a table. Pure: DataFrames in, DataFrames out.

    rows        the rows of the snapshot as `snapshot_reader.read` returns them
    state       the current rows of the table: the columns that the lake stores
    verdicts    one row per key of either side: insert, update, delete, ...
    change set  the rows to insert, update and delete

Only keys and 128-bit hashes pass through the join's shuffle; full rows are fetched afterwards, for the keys that
changed. Columns that are added here begin with `_cdc_`, which no column of a source may.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.row_keys import ROW_COUNT
from lakehouse.ingest.readers.snapshot_reader import KEY_STATE, NULL_SLICE, PROBLEMS, RECEIVED, UNMASKED
from lakehouse.lake.cdc import (
    CHANGED_COLUMNS,
    DELETE,
    GOES_MISSING,
    INSERT,
    IS_BACK,
    MISSING_SINCE,
    UNCHANGED,
    UPDATE,
)
from lakehouse.lake.grace import (
    FROM_STATE,
    PROTECTED,
    PROTECTED_BACK,
    STILL_MISSING,
    Grace,
    epoch_micros,
    operation_sql,
    outcome_sql,
    since_sql,
)
from lakehouse.lake.hashes import hash_columns, normalize
from lakehouse.lake.marked_rows import is_marked
from lakehouse.lake.slice_columns import slice_in_table
from lakehouse.schema.table_schema import stored_schema
from lakehouse.spark.collect import select_collectable

VERDICT = "_cdc_verdict"
OPERATION = "_cdc_operation"
CONFLICT = "conflict"  # rows of one key have different content, and the `duplicates` policy has no answer
DUPLICATE_KEY = "another row of the snapshot has the same key"  # why a good row goes to quarantine
UNREADABLE = "unread"  # all rows whose key could not be read, as one group

# Only of a table with `slice_by`: the slice of the accepted row, and that of the table's row (lake/slice_columns.py).
ACCEPTED_SLICE, STATE_SLICE = "_cdc_accepted_slice", "_cdc_state_slice"

_ROW_HASHES = ["_cdc_whole_1", "_cdc_whole_2"]  # of the row that represents its key; the row is fetched by them
_COMPARED_HASHES = ["_cdc_after_1", "_cdc_after_2"]  # of the compared columns
_IS_FEWER = "_cdc_is_fewer"  # of a table without a key: whether there are fewer equal rows than before
_STATE_HASHES = ["_cdc_before_1", "_cdc_before_2"]  # the same of the table's row


@dataclass(frozen=True)
class Counts:
    """Numbers of rows of the snapshot by their verdict; `deleted` are rows of bronze, `conflicts` are keys.

    rows_read = inserted + updated + unchanged + quarantined + duplicates, if there is no conflict.
    """

    rows_read: int
    inserted: int
    updated: int
    deleted: int
    unchanged: int
    quarantined: int
    duplicates: int
    conflicts: int
    unreadable_keys: int  # quarantined rows that could be for any row of bronze
    live_rows: int | None = None  # rows of bronze in the slices of the snapshot; None without `slice_by`
    # Keys, of a table with `missing`.
    missing: int | None = None  # that are missing after the snapshot
    went_missing: int = 0  # since this snapshot
    marks: int = 0  # the rows of the change set that only set or clear `_cdc_missing_since`
    expired: int = 0  # of those deleted: they were missing before, or marked
    fewer: int = 0  # of those updated, of a table without a key: the snapshot has fewer equal rows than the one before

    @property
    def changes(self) -> int:
        """The number of rows of the change set."""
        return self.inserted + self.updated + self.deleted + self.marks

    @property
    def lost(self) -> int:
        """The number of keys that the snapshot lacks, and the one before it had: those that the guard counts."""
        return self.deleted - self.expired + self.went_missing


def verdicts(rows: DataFrame, state: DataFrame, table: Table, grace: Grace | None = None) -> DataFrame:
    """Decide the verdict on each key.

    Args:
        rows: The rows of the snapshot.
        state: The current rows of the table; with `grace`, as `bronze.state_rows` returns them.
        table: The table's configuration.
        grace: The treatment of keys that the snapshot lacks; None: they are deleted.

    Returns:
        One row per key: the key columns, `VERDICT`, `_cdc_rows` (rows of the snapshot with that key),
        `_cdc_unreadable` (those whose key cannot be read), `_cdc_known` (whether `state` has the key), and hashes of
        the row that represents the key. The key and hashes of a single unchanged row are null, as nothing needs them.
        With `grace`, `_cdc_since`: since when the key was missing, or is marked, before the snapshot.
        Of a table with `slice_by`, also `ACCEPTED_SLICE` and `STATE_SLICE`, and `_cdc_marked` with `grace`; the slices
        of the snapshot then decide about the keys that it lacks (`ingest/slices.py`).
    """
    schema = stored_schema(table)
    compared = [*table.compared_columns]
    absence = [F.col(MISSING_SINCE).alias("_cdc_since"), is_marked().alias("_cdc_was_marked")] if grace else []
    state_slice = [slice_in_table(table).alias(STATE_SLICE)] if table.slice_by else []
    counted = [F.col(ROW_COUNT).alias("_cdc_count_before")] if table.counts_rows else []
    hashes = hash_columns(compared, schema, _STATE_HASHES)
    before = state.select(*table.keys, *hashes, *absence, *state_slice, *counted)
    hash_pairs = zip(_COMPARED_HASHES, _STATE_HASHES, strict=True)
    # Keys that were read have no null, and the one group of unreadable rows must match nothing: so plain equality.
    joined = _group_by_key(rows, table, compared).join(before, on=list(table.keys), how="full")
    is_same = reduce(Column.__and__, [F.col(of_row) == F.col(of_state) for of_row, of_state in hash_pairs])
    is_known = F.col(_STATE_HASHES[0]).isNotNull()
    verdict = (
        F.when(F.col("_cdc_rows").isNull(), DELETE)
        .when(F.col(table.keys[0]).isNull(), UNREADABLE)
        .when(F.col("_cdc_bad") > 0, PROTECTED)
        .when(F.col("_cdc_conflict"), PROTECTED if table.duplicates == "quarantine" else CONFLICT)
        .when(~is_known, INSERT)
        .when(is_same, UNCHANGED)
        .otherwise(UPDATE)
    )
    if grace:
        joined = joined.select("*", *_key_facts(table, is_known, is_same, grace))
        verdict = (
            F.when(F.col(table.keys[0]).isNull(), UNREADABLE)
            .when(F.col("_cdc_conflict") & ~F.col("_cdc_quarantined"), CONFLICT)
            .otherwise(F.expr(outcome_sql(grace.keeps_marked)))
        )
    is_needed = (F.col(VERDICT) != UNCHANGED) | (F.col("_cdc_rows") > 1)
    slices = []
    if table.slice_by:
        accepted = F.when(F.col(VERDICT).isin(INSERT, UPDATE, UNCHANGED, IS_BACK), F.col(ACCEPTED_SLICE))
        slices = [accepted.alias(ACCEPTED_SLICE), F.col(STATE_SLICE)]
    is_fewer = (F.col(VERDICT) == UPDATE) & (F.col("_cdc_rows") < F.col("_cdc_count_before"))
    return joined.select("*", verdict.alias(VERDICT)).select(
        VERDICT,
        F.coalesce("_cdc_rows", F.lit(0)).alias("_cdc_rows"),
        F.col("_cdc_unreadable"),
        is_known.alias("_cdc_known"),
        *[F.when(is_needed, F.col(c)).alias(c) for c in [*table.keys, *_ROW_HASHES]],
        *(["_cdc_since"] if grace else []),
        *(["_cdc_marked"] if grace and table.slice_by else []),
        *([is_fewer.alias(_IS_FEWER)] if table.counts_rows else []),
        *slices,
    )


def _key_facts(table: Table, is_known: Column, is_same: Column, grace: Grace) -> list[Column]:
    """Return the columns that `outcome_sql` reads and the join does not have."""
    is_quarantined = F.coalesce(F.col("_cdc_bad") > 0, F.lit(False))
    if table.duplicates == "quarantine":
        is_quarantined = is_quarantined | F.coalesce(F.col("_cdc_conflict"), F.lit(False))
    since = F.coalesce("_cdc_since", F.lit(grace.time).cast("timestamp"))
    is_due = F.lit(False) if grace.bound is None else since <= F.lit(grace.bound).cast("timestamp")
    return [
        F.col("_cdc_rows").isNotNull().alias("_cdc_accepted"),
        is_quarantined.alias("_cdc_quarantined"),
        is_known.alias("_cdc_known"),
        F.coalesce(is_same, F.lit(False)).alias("_cdc_same"),
        F.coalesce("_cdc_was_marked", F.lit(False)).alias("_cdc_marked"),
        is_due.alias("_cdc_due"),
        F.lit(True).alias("_cdc_contained"),
    ]


def _group_by_key(rows: DataFrame, table: Table, compared: list[str]) -> DataFrame:
    """Return one row per key of the snapshot; rows whose key was not read form one group, under null."""
    schema = stored_schema(table)
    content = _content(table)
    narrow = rows.select(
        *[F.when(F.col(KEY_STATE) == "read", F.col(k)).alias(k) for k in table.keys],
        (F.col(KEY_STATE) == "unreadable").alias("_cdc_lost"),
        (F.size(PROBLEMS) == 0).alias("_cdc_good"),
        *([F.col(table.updated_at).alias("_cdc_at")] if table.updated_at else []),
        *hash_columns(content, schema, _ROW_HASHES),
        *hash_columns([c for c in compared if c != ROW_COUNT], schema, _COMPARED_HASHES),
        *([slice_in_table(table).alias(ACCEPTED_SLICE)] if table.slice_by else []),
    )
    grouped = narrow.groupBy(*table.keys).agg(
        F.count("*").alias("_cdc_rows"),
        F.count_if("_cdc_lost").alias("_cdc_unreadable"),
        F.count_if(~F.col("_cdc_good")).alias("_cdc_bad"),
        *_row_hashes(newest=table.duplicates == "latest", others=[ACCEPTED_SLICE] if table.slice_by else []),
    )
    # The greatest and the least of a key's rows differ.
    is_conflict = reduce(Column.__or__, [F.col(c) != F.col(f"_cdc_low{c}") for c in _ROW_HASHES])
    if table.counts_rows:
        counted = grouped.withColumn(ROW_COUNT, F.col("_cdc_rows"))
        hashes = hash_columns(compared, schema, _COMPARED_HASHES)
        grouped = counted.withColumns(dict(zip(_COMPARED_HASHES, hashes, strict=True))).drop(ROW_COUNT)
    return grouped.select("*", F.coalesce(is_conflict, F.lit(False)).alias("_cdc_conflict"))


def _content(table: Table) -> list[str]:
    """Return the columns in which rows of one key may differ: none, if rows are told apart by all of their values."""
    return [] if table.counts_rows else [c for c in stored_schema(table).names if c not in table.keys]


def _row_hashes(newest: bool, others: list[str]) -> list[Column]:
    """Return the greatest and the least hashes of a key's good rows, or of those with the greatest `updated_at`.

    Args:
        newest: Whether only the rows with the greatest `updated_at` count.
        others: Further columns, which are equal in rows with equal hashes.
    """
    is_good, hashes = F.col("_cdc_good"), [*_ROW_HASHES, *_COMPARED_HASHES, *others]
    if not newest:  # scalar extremes, because those are aggregated in place
        greatest = [F.max(F.when(is_good, F.col(c))).alias(c) for c in hashes]
        return [*greatest, *[F.min(F.when(is_good, F.col(c))).alias(f"_cdc_low{c}") for c in _ROW_HASHES]]
    last = F.max(F.when(is_good, F.struct("_cdc_at", *hashes)))
    # Complemented hashes sort in the opposite order, so this is the least of the rows at the same greatest time.
    complements = [F.bitwise_not(F.col(c)).alias(c) for c in _ROW_HASHES]
    least = F.max(F.when(is_good, F.struct("_cdc_at", *complements)))
    return [
        *[last[c].alias(c) for c in hashes],
        *[F.bitwise_not(least[c]).alias(f"_cdc_low{c}") for c in _ROW_HASHES],
    ]


def count_verdicts(verdicts: DataFrame, live_rows: Column | None = None) -> DataFrame:
    """Count the verdicts; returns one row, with the fields of `Counts`.

    Args:
        verdicts: The verdict on each key.
        live_rows: Whether a row of the table counts for `live_rows`; None: these are not counted.
    """
    verdict, rows = F.col(VERDICT), F.col("_cdc_rows")
    has_grace = "_cdc_since" in verdicts.columns

    def keys(*kinds: str) -> Column:
        return F.count_if(verdict.isin(*kinds))

    def total(amount: Column, *kinds: str) -> Column:
        return F.coalesce(F.sum(F.when(verdict.isin(*kinds), amount)), F.lit(0))

    return verdicts.agg(
        F.coalesce(F.sum(rows), F.lit(0)).alias("rows_read"),
        keys(INSERT).alias("inserted"),
        keys(UPDATE).alias("updated"),
        keys(DELETE).alias("deleted"),
        keys(UNCHANGED, IS_BACK).alias("unchanged"),
        total(rows, UNREADABLE, PROTECTED, PROTECTED_BACK).alias("quarantined"),
        total(rows - 1, INSERT, UPDATE, UNCHANGED, IS_BACK).alias("duplicates"),
        keys(CONFLICT).alias("conflicts"),
        F.coalesce(F.sum("_cdc_unreadable"), F.lit(0)).alias("unreadable_keys"),
        *([F.count_if(_IS_FEWER).alias("fewer")] if _IS_FEWER in verdicts.columns else []),
        *(
            [
                keys(GOES_MISSING, STILL_MISSING).alias("missing"),
                keys(GOES_MISSING).alias("went_missing"),
                keys(GOES_MISSING, IS_BACK, PROTECTED_BACK).alias("marks"),
                F.count_if((verdict == DELETE) & F.col("_cdc_since").isNotNull()).alias("expired"),
            ]
            if has_grace
            else []
        ),
        (F.lit(None).cast("bigint") if live_rows is None else F.count_if(live_rows)).alias("live_rows"),
    )


def changed_rows(
    rows: DataFrame,
    state: DataFrame,
    verdicts: DataFrame,
    counts: Counts,
    table: Table,
    grace: Grace | None = None,
) -> DataFrame:
    """Return the rows to insert, to update (as they are now) and to delete (as they were).

    With `grace`, also those of keys that go missing or are back, as they were.

    Args:
        rows: The rows of the snapshot.
        state: The current rows of the table.
        verdicts: The verdict on each key.
        counts: The counts of the verdicts; a kind of change that has none is not looked for.
        table: The table's configuration.
        grace: The treatment of keys that the snapshot lacks; None: they are deleted.

    Returns:
        The columns that the lake stores, `OPERATION`, and `CHANGED_COLUMNS` (null unless updated); with `grace`,
        `MISSING_SINCE`.
    """
    schema, keys = stored_schema(table), list(table.keys)
    no_columns = F.lit(None).cast("array<string>").alias(CHANGED_COLUMNS)
    after, changed = rows.where(F.size(PROBLEMS) == 0), no_columns
    count = [F.col("_cdc_rows").alias(ROW_COUNT)] if table.counts_rows else []
    if counts.inserted == counts.rows_read:  # a first load without duplicates: nothing has to be joined
        after = after.withColumn(ROW_COUNT, F.lit(1).cast("bigint")) if count else after
        after = after.select(*schema.names, F.lit(INSERT).alias(VERDICT))
    else:
        content = _content(table)
        wanted = verdicts.where(F.col(VERDICT).isin(INSERT, UPDATE)).select(*keys, *_ROW_HASHES, VERDICT, *count)
        names = [name for name in schema.names if name in after.columns]
        hashed = after.select(*names, *hash_columns(content, schema, _ROW_HASHES))
        after = hashed.join(wanted, on=[*keys, *_ROW_HASHES], how="inner")
        # Rows with the same key and hashes are equal in all columns, so it does not matter which one remains.
        after = (after.dropDuplicates(keys) if counts.duplicates else after).select(*schema.names, VERDICT)
    if counts.updated:
        before = state.select(*keys, *[F.col(c).alias(f"_cdc_before_{c}") for c in schema.names])
        after, changed = after.join(before, on=keys, how="left"), _changed_columns(table, schema)
    changes = after.select(*schema.names, F.col(VERDICT).alias(OPERATION), changed.alias(CHANGED_COLUMNS))
    if grace:
        since = F.lit(None).cast("timestamp").alias(MISSING_SINCE)
        return changes.select("*", since).unionByName(_absent_rows(state, verdicts, table, grace))
    if not counts.deleted:
        return changes
    deleted_keys = verdicts.where(F.col(VERDICT) == DELETE).select(*keys)
    deleted = state.join(deleted_keys, on=keys, how="left_semi")
    return changes.unionByName(deleted.select(*schema.names, F.lit(DELETE).alias(OPERATION), no_columns))


def _absent_rows(state: DataFrame, verdicts: DataFrame, table: Table, grace: Grace) -> DataFrame:
    """Return the rows of keys that are deleted, go missing or are back, as they were."""
    names = [*stored_schema(table).names]
    now = f"timestamp_micros({epoch_micros(grace.time)})"
    operation = F.expr(operation_sql(VERDICT))
    since = F.expr(since_sql(VERDICT, now, grace.keeps_marked)).alias(MISSING_SINCE)
    found = verdicts.where(F.col(VERDICT).isin(*FROM_STATE))
    keys = found.select(*table.keys, operation.alias("_cdc_outcome"), since)
    rows = state.select(*names).join(keys, on=list(table.keys), how="inner")
    no_columns = F.lit(None).cast("array<string>").alias(CHANGED_COLUMNS)
    return rows.select(*names, F.col("_cdc_outcome").alias(OPERATION), no_columns, MISSING_SINCE)


def to_change_set(changes: DataFrame, sequence: int, time: datetime) -> DataFrame:
    """Return changed rows with all columns of a change set.

    Args:
        changes: The rows of `changed_rows`.
        sequence: The sequence that the change set gets.
        time: The time of the snapshot.
    """
    missing = [MISSING_SINCE] if MISSING_SINCE in changes.columns else []
    of_row = [c for c in changes.columns if c not in (OPERATION, CHANGED_COLUMNS, MISSING_SINCE)]
    stamp = F.lit(time).cast("timestamp").alias("_cdc_timestamp")
    return changes.select(
        *of_row, OPERATION, stamp, F.lit(sequence).cast("long").alias("_cdc_sequence"), CHANGED_COLUMNS, *missing
    )


def _changed_columns(table: Table, schema: T.StructType) -> Column:
    """Return the names of the columns that differ; null for an insert."""
    differing = []
    for name in schema.names:
        if name not in table.keys:
            after, before = (normalize(F.col(c), schema[name].dataType) for c in (name, f"_cdc_before_{name}"))
            differing.append(F.when(~after.eqNullSafe(before), name))
    return F.when(F.col(VERDICT) == UPDATE, F.array_compact(F.array(*differing)))


def quarantine_rows(rows: DataFrame, verdicts: DataFrame, table: Table) -> DataFrame:
    """Return the rows that go to quarantine.

    The good rows of a protected key go with its malformed row, or with the rows that they contradict.

    Args:
        rows: The rows of the snapshot, with `RECEIVED`.
        verdicts: The verdict on each key.
        table: The table's configuration.

    Returns:
        `row` as received (JSON), `column`, `value`, `reason`, `rule`, and `UNMASKED` if `rows` has it.
    """
    unmasked = [c for c in rows.columns if c == UNMASKED]
    protected = verdicts.where(F.col(VERDICT).isin(PROTECTED, PROTECTED_BACK)).select(*table.keys)
    first = F.get(PROBLEMS, F.lit(0))
    malformed = rows.where(F.size(PROBLEMS) > 0).select(
        F.col(RECEIVED).alias("row"),
        first["column"].alias("column"),
        first["value"].alias("value"),
        F.array_join(F.transform(PROBLEMS, lambda p: F.concat_ws(": ", p["column"], p["reason"])), "; ").alias(
            "reason"
        ),
        F.when(F.col(KEY_STATE) == "null", "null_key")
        .when(F.exists(PROBLEMS, lambda p: p["reason"] == NULL_SLICE), "null_slice")
        .otherwise("malformed")
        .alias("rule"),
        *unmasked,
    )
    good = rows.where(F.size(PROBLEMS) == 0).join(protected, on=list(table.keys), how="left_semi")
    duplicate = good.select(
        F.col(RECEIVED).alias("row"),
        F.lit(", ".join(table.keys)).alias("column"),
        F.to_json(F.struct(*table.keys)).alias("value"),
        F.lit(DUPLICATE_KEY).alias("reason"),
        F.lit("duplicate_key").alias("rule"),
        *unmasked,
    )
    return malformed.unionByName(duplicate)


def example_keys(verdicts: DataFrame, verdict: str, table: Table, limit: int = 3) -> str:
    """Return a few keys of a verdict, as text for a message.

    Args:
        verdicts: The verdict on each key.
        verdict: The verdict to show keys of.
        table: The table's configuration.
        limit: How many keys to show at most.
    """
    keys = select_collectable(verdicts.where(F.col(VERDICT) == verdict), table.keys).limit(limit).collect()
    return ", ".join(str(tuple(row)) if len(row) > 1 else repr(row[0]) for row in keys)
