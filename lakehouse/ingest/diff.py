"""What changed between bronze's current state and a snapshot. Pure: DataFrames in, DataFrames out.

    rows        the snapshot as read: the declared columns, PROBLEMS, RECEIVED and KEY (snapshot.py)
    state       bronze's live rows: the declared columns
    verdicts    one row a key of either side: what is to happen to it
    change set  the rows to insert, update and delete

Only keys and 128-bit hashes pass the join's shuffle; whole rows are fetched afterwards, for the keys that changed.
Columns of our own are called `_cdc_...`, as no column of a source may be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.ingest.readers.snapshot_reader import KEY_STATE, PROBLEMS, RECEIVED, UNMASKED
from lakehouse.lake.cdc import CHANGED_COLUMNS, DELETE, INSERT, UNCHANGED, UPDATE

VERDICT = "_cdc_verdict"
PROTECTED = "protected"  # a row of the key goes to quarantine: bronze keeps what it has
CONFLICT = "conflict"  # one key, different content, and the policy has no answer
UNREADABLE = "unread"  # rows whose key could not be read, as one


_ROW_HASHES = ["_cdc_whole_1", "_cdc_whole_2"]  # of the row that counts for its key; what fetches it again
_COMPARED_HASHES = ["_cdc_after_1", "_cdc_after_2"]  # of what is compared
_HASH_SEEDS = (42, -7046029254386353131)


@dataclass(frozen=True)
class Counts:
    """Rows of the snapshot by what becomes of them; `deleted` are rows of bronze, `conflicts` are keys.

    rows_read = inserted + updated + unchanged + quarantined + duplicates, where there is no conflict.
    """

    rows_read: int
    inserted: int
    updated: int
    deleted: int
    unchanged: int
    quarantined: int
    duplicates: int
    conflicts: int
    unreadable_keys: int  # quarantined rows that could stand for any row of bronze

    @property
    def changes(self) -> int:
        return self.inserted + self.updated + self.deleted

    def with_unchanged(self, rows: int) -> Counts:
        """These, and `rows` more that are in bronze as they stand."""
        return replace(self, rows_read=self.rows_read + rows, unchanged=self.unchanged + rows)


def verdicts(rows: DataFrame, state: DataFrame, table: Table, fields: T.StructType) -> DataFrame:
    """One row a key: the keys, VERDICT, `_cdc_rows` of the snapshot with that key, `_cdc_unreadable` ones among them,
    `_cdc_known` where `state` has it, and the hashes of the row that counts. Keys and hashes of unchanged single rows
    are left out: nobody asks."""
    compared = [c for c in fields.names if c not in table.keys and c not in table.ignore]
    before = state.select(*table.keys, *_hashes(compared, fields, ["_cdc_before_1", "_cdc_before_2"]))
    # Keys that were read hold no null, and the one group of unread rows must match nothing: plain equality is right.
    both = _group_by_key(rows, table, fields, compared).join(before, on=list(table.keys), how="full")
    same = (F.col("_cdc_after_1") == F.col("_cdc_before_1")) & (F.col("_cdc_after_2") == F.col("_cdc_before_2"))
    verdict = (
        F.when(F.col("_cdc_rows").isNull(), DELETE)
        .when(F.col(table.keys[0]).isNull(), UNREADABLE)
        .when(F.col("_cdc_bad") > 0, PROTECTED)
        .when(F.col("_cdc_conflict"), PROTECTED if table.duplicates == "quarantine" else CONFLICT)
        .when(F.col("_cdc_before_1").isNull(), INSERT)
        .when(same, UNCHANGED)
        .otherwise(UPDATE)
    )
    judged = both.select("*", verdict.alias(VERDICT))
    asked = (F.col(VERDICT) != UNCHANGED) | (F.col("_cdc_rows") > 1)
    asked_for = [F.when(asked, F.col(c)).alias(c) for c in [*table.keys, *_ROW_HASHES]]
    rows_read, known = F.coalesce("_cdc_rows", F.lit(0)), F.col("_cdc_before_1").isNotNull()
    told = [rows_read.alias("_cdc_rows"), F.col("_cdc_unreadable"), known.alias("_cdc_known")]
    return judged.select(VERDICT, *told, *asked_for)


def _group_by_key(rows: DataFrame, table: Table, fields: T.StructType, compared: list[str]) -> DataFrame:
    """A row a key of the snapshot; the rows whose key was not read come as one, under null."""
    content = [c for c in fields.names if c not in table.keys]
    narrow = rows.select(
        *[F.when(F.col(KEY_STATE) == "read", F.col(k)).alias(k) for k in table.keys],
        (F.col(KEY_STATE) == "unreadable").alias("_cdc_lost"),
        (F.size(PROBLEMS) == 0).alias("_cdc_good"),
        *([F.col(table.updated_at).alias("_cdc_at")] if table.updated_at else []),
        *_hashes(content, fields, _ROW_HASHES),
        *_hashes(compared, fields, _COMPARED_HASHES),
    )
    choice, conflict = _aggregate_latest_rows() if table.duplicates == "latest" else _aggregate_identical_rows()
    grouped = narrow.groupBy(*table.keys).agg(
        F.count("*").alias("_cdc_rows"),
        F.count_if("_cdc_lost").alias("_cdc_unreadable"),
        F.count_if(~F.col("_cdc_good")).alias("_cdc_bad"),
        *choice,
    )
    return grouped.select("*", F.coalesce(conflict, F.lit(False)).alias("_cdc_conflict"))


def _aggregate_identical_rows() -> tuple[list[Column], Column]:
    """All good rows of a key must be the same one. Scalar extremes, because those aggregate in place."""
    good = F.col("_cdc_good")
    top = [F.max(F.when(good, F.col(c))).alias(c) for c in [*_ROW_HASHES, *_COMPARED_HASHES]]
    low = [F.min(F.when(good, F.col(c))).alias(f"_cdc_low{c}") for c in _ROW_HASHES]
    return [*top, *low], _rows_differ()


def _aggregate_latest_rows() -> tuple[list[Column], Column]:
    """The good row with the greatest `updated_at` counts; two different ones there are a conflict."""
    good = F.col("_cdc_good")
    top = F.max(F.when(good, F.struct("_cdc_at", *_ROW_HASHES, *_COMPARED_HASHES)))
    # Complemented hashes sort the other way round, so this is the least of the rows at the same greatest time.
    low = F.max(F.when(good, F.struct("_cdc_at", *[F.bitwise_not(F.col(c)).alias(c) for c in _ROW_HASHES])))
    chosen = [top[c].alias(c) for c in [*_ROW_HASHES, *_COMPARED_HASHES]]
    opposite = [F.bitwise_not(low[c]).alias(f"_cdc_low{c}") for c in _ROW_HASHES]
    return [*chosen, *opposite], _rows_differ()


def _rows_differ() -> Column:
    """Whether the greatest and the least of a key's rows are two."""
    return reduce(Column.__or__, [F.col(c) != F.col(f"_cdc_low{c}") for c in _ROW_HASHES])


def _hashes(columns: list[str], fields: T.StructType, names: list[str]) -> list[Column]:
    """128 bits over `columns`, as two longs: equal for equal rows, with null apart from empty and -0.0 as 0.0.

    xxhash64 passes over nulls, so each value goes in together with its being null.
    """
    values = [_normalize(F.col(c), fields[c].dataType) for c in columns]
    parts = [part for value in values for part in (value.isNull(), value)]
    return [F.xxhash64(F.lit(seed), *parts).alias(name) for seed, name in zip(_HASH_SEEDS, names, strict=True)]


def _normalize(value: Column, data_type: T.DataType) -> Column:
    """NaN, and the two zeros, each as one value."""
    if isinstance(data_type, T.ArrayType):
        inner = F.transform(value, lambda one: _with_null_flag(one, data_type.elementType))
        return F.when(value.isNotNull(), F.struct(F.size(value).alias("size"), inner.alias("each")))
    if isinstance(data_type, T.StructType):
        return F.when(
            value.isNotNull(), F.struct(*[_with_null_flag(value[f.name], f.dataType).alias(f.name) for f in data_type])
        )
    if not isinstance(data_type, T.FloatType | T.DoubleType):
        return value
    return (
        F.when(F.isnan(value), F.lit("NaN").cast(data_type)).when(value == 0, F.lit(0).cast(data_type)).otherwise(value)
    )


def _with_null_flag(value: Column, data_type: T.DataType) -> Column:
    """A value inside another, with its being null."""
    return F.struct(value.isNull().alias("is_null"), _normalize(value, data_type).alias("value"))


def count_verdicts(verdicts: DataFrame) -> DataFrame:
    """The one row of `Counts`."""
    verdict, rows = F.col(VERDICT), F.col("_cdc_rows")

    def keys(kind: str) -> Column:
        return F.count_if(verdict == kind)

    def total(amount: Column, *kinds: str) -> Column:
        return F.coalesce(F.sum(F.when(verdict.isin(*kinds), amount)), F.lit(0))

    return verdicts.agg(
        F.coalesce(F.sum(rows), F.lit(0)).alias("rows_read"),
        keys(INSERT).alias("inserted"),
        keys(UPDATE).alias("updated"),
        keys(DELETE).alias("deleted"),
        keys(UNCHANGED).alias("unchanged"),
        total(rows, UNREADABLE, PROTECTED).alias("quarantined"),
        total(rows - 1, INSERT, UPDATE, UNCHANGED).alias("duplicates"),
        keys(CONFLICT).alias("conflicts"),
        F.coalesce(F.sum("_cdc_unreadable"), F.lit(0)).alias("unreadable_keys"),
    )


def change_set(
    rows: DataFrame,
    state: DataFrame,
    verdicts: DataFrame,
    counts: Counts,
    table: Table,
    fields: T.StructType,
    sequence: int,
    time: datetime,
) -> DataFrame:
    """The rows to insert, update (as they are now) and delete (as they were), with their `_cdc_*` columns."""
    after = _fetch_rows(rows, verdicts, counts, table, fields)
    before = state.select(*table.keys, *[F.col(c).alias(f"_cdc_before_{c}") for c in fields.names])
    if counts.updated:
        after = after.join(before, on=list(table.keys), how="left")
        changed = _changed_columns(table, fields)
    else:
        changed = F.lit(None).cast("array<string>")
    parts = [after.select(*fields.names, F.col(VERDICT).alias("_cdc_operation"), changed.alias(CHANGED_COLUMNS))]
    if counts.deleted:
        gone = verdicts.where(F.col(VERDICT) == DELETE).select(*table.keys)
        last_known = state.join(gone, on=list(table.keys), how="left_semi")
        nothing = F.lit(None).cast("array<string>")
        parts.append(
            last_known.select(*fields.names, F.lit(DELETE).alias("_cdc_operation"), nothing.alias(CHANGED_COLUMNS))
        )
    stamp, number = F.lit(time).cast("timestamp"), F.lit(sequence).cast("long")
    return _union(parts).select(
        *fields.names, "_cdc_operation", stamp.alias("_cdc_timestamp"), number.alias("_cdc_sequence"), CHANGED_COLUMNS
    )


def _fetch_rows(rows: DataFrame, verdicts: DataFrame, counts: Counts, table: Table, fields: T.StructType) -> DataFrame:
    """The snapshot's rows that are inserted or updated, one a key, with their verdict."""
    good = rows.where(F.size(PROBLEMS) == 0)
    if counts.inserted == counts.rows_read:  # a first load without duplicates: there is nothing to look up
        return good.select(*fields.names, F.lit(INSERT).alias(VERDICT))
    content = [c for c in fields.names if c not in table.keys]
    wanted = verdicts.where(F.col(VERDICT).isin(INSERT, UPDATE)).select(*table.keys, *_ROW_HASHES, VERDICT)
    hashed = good.select(*fields.names, *_hashes(content, fields, _ROW_HASHES))
    found = hashed.join(wanted, on=[*table.keys, *_ROW_HASHES], how="inner")
    # Rows that agree in key and hashes are equal in all columns: whichever stays is the row.
    single = found.dropDuplicates(list(table.keys)) if counts.duplicates else found
    return single.select(*fields.names, VERDICT)


def _changed_columns(table: Table, fields: T.StructType) -> Column:
    """The names of the columns that differ; null for an insert."""
    content = [c for c in fields.names if c not in table.keys]
    differing = [
        F.when(
            ~_normalize(F.col(c), fields[c].dataType).eqNullSafe(
                _normalize(F.col(f"_cdc_before_{c}"), fields[c].dataType)
            ),
            c,
        )
        for c in content
    ]
    return F.when(F.col(VERDICT) == UPDATE, F.array_compact(F.array(*differing)))


def _union(parts: list[DataFrame]) -> DataFrame:
    return parts[0] if len(parts) == 1 else parts[0].unionByName(parts[1])


def quarantine_rows(rows: DataFrame, verdicts: DataFrame, table: Table) -> DataFrame:
    """The rows that go to quarantine: `row` as received (JSON), `column`, `value`, `reason` and `rule`.

    The good rows of a protected key go with the bad one, or with those they contradict. SOUGHT, if there, goes along.
    """
    sought = [c for c in rows.columns if c == UNMASKED]
    protected = verdicts.where(F.col(VERDICT) == PROTECTED).select(*table.keys, F.lit(True).alias("_cdc_protected"))
    first = F.get(PROBLEMS, F.lit(0))
    bad = rows.where(F.size(PROBLEMS) > 0).select(
        F.col(RECEIVED).alias("row"),
        first["column"].alias("column"),
        first["value"].alias("value"),
        F.array_join(F.transform(PROBLEMS, _problem_text), "; ").alias("reason"),
        F.when(F.col(KEY_STATE) == "null", "null_key").otherwise("malformed").alias("rule"),
        *sought,
    )
    good = rows.where(F.size(PROBLEMS) == 0).join(protected, on=list(table.keys), how="left_semi")
    doubled = good.select(
        F.col(RECEIVED).alias("row"),
        F.lit(", ".join(table.keys)).alias("column"),
        F.to_json(F.struct(*table.keys)).alias("value"),
        F.lit("another row of the snapshot has the same key").alias("reason"),
        F.lit("duplicate_key").alias("rule"),
        *sought,
    )
    return bad.unionByName(doubled)


def _problem_text(problem: Column) -> Column:
    return F.concat_ws(": ", problem["column"], problem["reason"])


def faulty_keys(verdicts: DataFrame, table: Table) -> DataFrame:
    """Keys that stand on several rows of the snapshot, or on one that is not taken."""
    kept = F.col(VERDICT).isin(PROTECTED, CONFLICT) | ((F.col("_cdc_rows") > 1) & (F.col(VERDICT) != UNREADABLE))
    return verdicts.where(kept).select(*table.keys)


def new_keys(verdicts: DataFrame, table: Table) -> DataFrame:
    """Keys of the snapshot that the state has not, whatever becomes of them."""
    return verdicts.where(~F.col("_cdc_known") & (F.col(VERDICT) != UNREADABLE)).select(*table.keys)


def example_keys(verdicts: DataFrame, verdict: str, table: Table, limit: int = 3) -> str:
    """A few keys of a verdict, for a message."""
    found = verdicts.where(F.col(VERDICT) == verdict).select(*table.keys).limit(limit).collect()
    return ", ".join(str(tuple(row)) if len(row) > 1 else repr(row[0]) for row in found)
