"""I1 and the half of I5 that stands in raw: bronze against the landed bytes, change sets against the ledger.

Nothing that `ingest` reads, compares or folds with is used here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import reduce

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.ingest.context import fingerprint
from lakehouse.ingest.prepare_files import readable_snapshot
from lakehouse.lake import delta, forgotten_keys
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.schema import pii
from lakehouse.spark.session import local_frame
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name
from lakehouse.verify.check import Check, Claim, compare_rows, format_ranges, is_gone, quoted_column
from lakehouse.verify.second_reader import (
    UNREADABLE,
    CheckedTable,
    current_rows,
    nullable_schema,
    parse_text,
    read_typed,
)

_CDC_DDL = "_cdc_operation STRING, _cdc_timestamp TIMESTAMP, _cdc_sequence BIGINT, _cdc_changed ARRAY<STRING>"
_STATE_OPERATION = "rows"
_OPERATIONS = {"I": "inserted", "U": "updated", "D": "deleted"}


# --- I1 ---------------------------------------------------------------------------------------------------------


def snapshot_checks(subject: CheckedTable) -> Iterator[Check]:
    """Bronze against the last accepted snapshot, and against the change sets for keys in its quarantine."""
    same = Claim("I1", "bronze = the last accepted snapshot", subject.name)
    kept = Claim("I1", "keys in quarantine keep their row", subject.name)
    landed, why = _last_landed_snapshot(subject)
    if landed is None:
        yield same.not_checkable(why)
        yield kept.not_checkable(why)
        return
    bronze = current_rows(subject)
    refused = _quarantined_keys(subject).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        with readable_snapshot(subject.lake, subject.config, landed) as files:
            yield _compare_with_snapshot(same, subject, files, bronze, refused)
        yield _compare_with_change_sets(kept, subject, bronze, _readable_keys(refused))
    finally:
        refused.unpersist()


def _last_landed_snapshot(subject: CheckedTable) -> tuple[LandedSnapshot | None, str]:
    """The last accepted snapshot, or why bronze cannot be held against it."""
    if subject.config.format != "csv":
        return None, f"there is no second reader of {subject.config.format}"
    time = subject.last_accepted.snapshot_time
    landed = landing.find_snapshot(subject.lake, subject.name, time)
    if landed is None:
        return None, f"the snapshot {snapshot_name(time)} is no longer in landing"
    if fingerprint(subject.pipeline, subject.name, landed) != subject.last_accepted.fingerprint:
        return None, f"the table's configuration changed since {snapshot_name(time)}, and the next run takes it again"
    return landed, ""


def _compare_with_snapshot(
    claim: Claim, subject: CheckedTable, landed: LandedSnapshot, bronze: DataFrame, refused: DataFrame
) -> Check:
    table, stamp = subject.config, snapshot_name(landed.time)
    read = [read_typed(subject, path) for path in landed.paths]
    rows = reduce(DataFrame.unionByName, read).where(_all_not_null(table.keys))
    rows = forgotten_keys.drop_forgotten(
        rows, table, forgotten_keys.read_hashes(subject.spark, subject.lake, subject.name)
    )
    rows = rows.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        untaken = F.col(UNREADABLE).isNotNull()
        strange = rows.where(untaken).join(refused, on=table.keys, how="left_anti")
        good = rows.where(~untaken)
        if hidden := _count_hidden_rows(subject):
            strange = strange.join(bronze, on=table.keys, how="left_semi").join(good, on=table.keys, how="left_anti")
        single = _one_row_per_key(table, good.unionByName(strange))
        about = f"{stamp}; {_readable_keys(refused).count():,} keys in quarantine"
        if hidden:
            about += f"; {hidden:,} records of which quarantine shows nothing, not looked for"
        if strangers := single.where(untaken).count():
            single = _fill_from_bronze(single, bronze, subject)
            about += f"; {strangers:,} rows not compared in all columns, since this reader cannot take them"
        compared = [f.name for f in subject.schema if f.name not in table.ignore]
        wanted, found = (
            side.join(_readable_keys(refused), on=table.keys, how="left_anti").select(*map(quoted_column, compared))
            for side in (single, bronze)
        )
        return compare_rows(claim, wanted, found, (f"the snapshot {stamp}", "bronze"), about)
    finally:
        rows.unpersist()


def _one_row_per_key(table: Table, rows: DataFrame) -> DataFrame:
    """Equal rows collapse; under `latest` the greatest `updated_at` of a key counts."""
    if table.duplicates != "latest" or table.updated_at is None:
        return rows.distinct()
    newest = F.max(F.struct(quoted_column(table.updated_at), F.struct(*map(quoted_column, rows.columns)).alias("row")))
    return rows.groupBy(*map(quoted_column, table.keys)).agg(newest.alias("_cdc_newest")).select("_cdc_newest.row.*")


def _fill_from_bronze(rows: DataFrame, bronze: DataFrame, subject: CheckedTable) -> DataFrame:
    """With bronze's values where a row's text may be one that the reader has no eye for, such as `inf`."""
    rest = [f.name for f in subject.schema if f.name not in subject.config.keys]
    both = rows.alias("s").join(bronze.alias("b"), on=subject.config.keys, how="left")
    filled = [
        F.when(F.col(UNREADABLE).isNotNull(), F.coalesce(f"s.`{c}`", f"b.`{c}`")).otherwise(F.col(f"s.`{c}`")).alias(c)
        for c in rest
    ]
    return both.select(*map(quoted_column, subject.config.keys), *filled).distinct()


def _quarantined_keys(subject: CheckedTable) -> DataFrame:
    """The keys of the rows that the last accepted snapshot left in quarantine, and whether the key was read."""
    spark, path, keys = subject.spark, subject.lake.quarantine_table(subject.name), subject.config.keys
    if not delta.exists(spark, path):
        nothing = T.StructType([f for f in subject.schema if f.name in keys]).add("_cdc_read", T.BooleanType())
        return local_frame(spark, nothing)
    rows = _last_quarantined_rows(subject)
    received = F.from_json("row", F.lit("map<string, string>"))
    texts = F.transform_keys(received, lambda name, _: F.lower(name))
    values = [
        parse_text(subject, subject.schema[k], F.try_element_at(texts, F.lit(subject.config.name_in_files(k).lower())))
        for k in keys
    ]
    # A record of the wrong length names no column: what seems to be its key may be anything.
    read = rows.select(*values, F.col("column").isNotNull().alias("_cdc_read"))
    return (
        read.where(_all_not_null(keys))
        .groupBy(*map(quoted_column, keys))
        .agg(F.bool_or("_cdc_read").alias("_cdc_read"))
    )


def _count_hidden_rows(subject: CheckedTable) -> int:
    """Records that the last accepted snapshot left in quarantine and that nothing is shown of: personal columns."""
    path = subject.lake.quarantine_table(subject.name)
    if not subject.config.pii or not delta.exists(subject.spark, path):
        return 0
    rows = _last_quarantined_rows(subject).where(F.col("row") == pii.MASK)
    return int(rows.agg(F.coalesce(F.sum("occurrences"), F.lit(0))).collect()[0][0])


def _last_quarantined_rows(subject: CheckedTable) -> DataFrame:
    last = F.lit(subject.last_accepted.sequence)
    rows = delta.read(subject.spark, subject.lake.quarantine_table(subject.name)).where(F.col("stage") == "ingest")
    return rows.where((F.col("first_sequence") <= last) & (F.col("last_sequence") >= last))


def _readable_keys(refused: DataFrame) -> DataFrame:
    return refused.where("_cdc_read").drop("_cdc_read")


def _compare_with_change_sets(claim: Claim, subject: CheckedTable, bronze: DataFrame, protected: DataFrame) -> Check:
    if not (count := protected.count()):
        return claim.holds("no key in quarantine")
    keys = subject.config.keys
    try:
        changes = read_change_sets(subject)
        # An open window's `_cdc_*` are of the change that opened it, which need not be the last one.
        told = [c for c in bronze.columns if subject.config.scd == 1 or c in subject.schema.names]
        newest = F.max_by(F.struct(*map(quoted_column, changes.columns)), "_cdc_sequence").alias("_cdc_newest")
        folded = changes.groupBy(*map(quoted_column, keys)).agg(newest).select("_cdc_newest.*")
        wanted, found = (
            side.join(protected, on=keys, how="left_semi").select(*map(quoted_column, told))
            for side in (folded.where("_cdc_operation <> 'D'"), bronze)
        )
        return compare_rows(claim, wanted, found, ("the change sets", "bronze"), f"{count:,} keys")
    except Exception as error:
        if is_gone(error):
            return claim.not_checkable("change sets are no longer there")
        raise


def read_change_sets(subject: CheckedTable) -> DataFrame:
    """All published change sets that are there, by the declared schema."""
    paths = [subject.lake.spark_path(entry.path) for entry in subject.history.entries_to_fold if entry.path]
    fields = T.StructType([*subject.schema, *nullable_schema(_CDC_DDL)])
    return subject.spark.read.schema(fields).parquet(*paths)


# --- I5 ---------------------------------------------------------------------------------------------------------


def count_checks(subject: CheckedTable) -> Iterator[Check]:
    """The ledger's numbers against each other, and against the change sets."""
    yield _check_ledger_sums(Claim("I5", "the ledger's counts add up", subject.name), subject.accepted)
    claim = Claim("I5", "change sets = the ledger", subject.name)
    yield _check_change_set_counts(claim, subject)
    if dropped := [e for e in subject.accepted if subject.history.is_dropped(e)]:
        why = f"retention dropped those of sequences {format_ranges(_sequences(dropped))}"
        yield Claim("I5", "older change sets = the ledger", subject.name).not_checkable(why)


def _check_ledger_sums(claim: Claim, accepted: list[LedgerEntry]) -> Check:
    wrong = []
    for entry in accepted:
        parts = [entry.inserted, entry.updated, entry.unchanged, entry.quarantined, entry.duplicates]
        total = sum(part or 0 for part in parts)
        if total != entry.rows_read:
            wrong.append(f"sequence {entry.sequence}: {entry.rows_read} rows read, {total} accounted for")
    if wrong:
        return claim.fails("; ".join(wrong[:5]))
    rows = sum(entry.rows_read or 0 for entry in accepted)
    return claim.holds(f"{rows:,} rows read in sequences {format_ranges(_sequences(accepted))}")


def _check_change_set_counts(claim: Claim, subject: CheckedTable) -> Check:
    try:
        grouped = read_change_sets(subject).groupBy("_cdc_sequence", "_cdc_operation").count()
        found = {(row._cdc_sequence, row._cdc_operation): row["count"] for row in grouped.collect()}
    except Exception as error:
        if is_gone(error):
            return claim.not_checkable("change sets are no longer there")
        raise
    base, sets = subject.history.base_state, [e for e in subject.history.entries_to_fold if not e.is_base_state]
    gone_since = {e.sequence: subject.forgotten_counts[e.path] for e in subject.history.entries_to_fold if e.path}
    told = {
        (e.sequence, o): (getattr(e, n) or 0) - gone_since.get(e.sequence, Counter())[o]
        for e in sets
        for o, n in _OPERATIONS.items()
    }
    about = ""
    if base:  # each of its rows has the sequence and the operation of the change set that it had been in
        rows = sum(found.pop(key) for key in list(found) if key[0] <= base.sequence)
        found[base.sequence, _STATE_OPERATION] = rows
        told[base.sequence, _STATE_OPERATION] = (base.inserted or 0) - gone_since[base.sequence].total()
        about = f" after the state of sequence {base.sequence}, {rows:,} rows"
    each = {key: (found.get(key, 0), told.get(key, 0)) for key in sorted(found.keys() | told.keys(), key=str)}
    wrong = [f"sequence {s}: {there} {o}, {said} told" for (s, o), (there, said) in each.items() if there != said]
    if wrong:
        return claim.fails("; ".join(wrong[:5]))
    sums = ", ".join(f"{sum(found.get((e.sequence, o), 0) for e in sets):,} {o}" for o in _OPERATIONS)
    forgot = sum(taken.total() for taken in gone_since.values())
    less = f", after {forgot:,} rows were forgotten" if forgot else ""
    return claim.holds(f"{sums} in {len(sets)} change sets{about}{less}")


def _sequences(accepted: list[LedgerEntry]) -> list[int]:
    return [entry.sequence for entry in accepted if entry.sequence is not None]


def _all_not_null(columns: list[str]) -> Column:
    return reduce(Column.__and__, [quoted_column(c).isNotNull() for c in columns])
