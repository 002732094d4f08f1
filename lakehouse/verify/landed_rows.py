"""Checks I1 of a table: bronze against the landed bytes of the last accepted snapshot.

None of the functions with which `ingest` reads and compares, or bronze folds, is used here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.lake import delta, forgotten_keys
from lakehouse.lake.cdc import GOES_MISSING, IS_BACK, MISSING_SINCE
from lakehouse.schema import pii
from lakehouse.spark.persist import persist_rows
from lakehouse.spark.session import local_frame
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name
from lakehouse.storage.prepare_files import readable_snapshot
from lakehouse.text import counted
from lakehouse.verify.check import Check, Claim, Side, compare_rows, is_gone, quoted_column
from lakehouse.verify.checked_table import CheckedTable
from lakehouse.verify.counted_rows import compare_counted, delivered_rows, unread_reason
from lakehouse.verify.feed import feed_checks
from lakehouse.verify.missing_keys import missing_checks
from lakehouse.verify.scd2 import scd2_checks
from lakehouse.verify.second_reader import UNREADABLE, parse_text, read_typed, without_null_texts

NO_KEY = "a row in quarantine has no key, and keeps no other row"
_IS_KEY_KNOWN = "_cdc_is_key_known"


def snapshot_checks(table: CheckedTable) -> Iterator[Check]:
    """Check bronze against the last accepted snapshot, and against the change sets for keys in its quarantine.

    A key in quarantine keeps the row that bronze had: the snapshot does not determine it. Of a history (scd 2) the
    open windows are compared, and then all windows with the change sets. A table with a change feed is compared with
    the fold of all its events.
    """
    if table.config.feed:
        yield from feed_checks(table)
        return
    same = Claim("I1", "bronze = the last accepted snapshot", table.name)
    in_quarantine = Claim("I1", "keys in quarantine keep their row", table.name)
    if lag_reason := table.lag_reason:
        yield same.not_checkable(lag_reason)
        return
    snapshot, reason = _find_last_snapshot(table)
    if snapshot is None:
        yield same.not_checkable(reason)
        yield in_quarantine.not_checkable(reason)
    else:
        bronze = table.read_current_rows().where(F.col(MISSING_SINCE).isNull()).drop(MISSING_SINCE)
        with readable_snapshot(table.lake, table.config, snapshot) as files:
            if table.config.counts_rows:
                yield _compare_without_key(same, table, files, bronze)
                yield in_quarantine.holds(NO_KEY)
            else:
                with persist_rows(quarantined_keys(table)) as quarantined:
                    yield _compare_with_snapshot(same, table, files, bronze, quarantined)
                    yield compare_with_change_sets(in_quarantine, table, bronze, known_keys_of(quarantined))
    yield from missing_checks(table)
    if table.config.scd == 2:
        yield from scd2_checks(table)


def _find_last_snapshot(table: CheckedTable) -> tuple[LandedSnapshot | None, str]:
    """Return the last accepted snapshot, or None and the reason why bronze cannot be compared with it."""
    if table.config.format != "csv":
        return None, f"there is no second reader of {table.config.format}"
    last = table.last_accepted
    stamp = snapshot_name(last.snapshot_time)
    snapshot = landing.find_snapshot(table.lake, table.name, last.snapshot_time)
    if snapshot is None:
        return None, f"the snapshot {stamp} is no longer in landing"
    if landing.fingerprint(snapshot, table.config, table.pipeline.timezone) != last.fingerprint:
        return None, f"the table's configuration changed since {stamp}; the next run ingests the snapshot again"
    return snapshot, ""


def _compare_with_snapshot(
    claim: Claim, table: CheckedTable, snapshot: LandedSnapshot, bronze: DataFrame, quarantined: DataFrame
) -> Check:
    keys, stamp = table.config.keys, snapshot_name(snapshot.time)
    known_keys = known_keys_of(quarantined)
    with persist_rows(landed_rows(table, snapshot)) as rows:
        is_unreadable = F.col(UNREADABLE).isNotNull()
        unreadable = rows.where(is_unreadable).join(quarantined, on=keys, how="left_anti")
        readable = rows.where(~is_unreadable)
        if hidden := count_hidden_rows(table):
            unreadable = unreadable.join(bronze, on=keys, how="left_semi").join(readable, on=keys, how="left_anti")
        expected = one_row_per_key(table.config, readable.unionByName(unreadable))
        details = f"{stamp}; {counted(known_keys.count(), 'key')} in quarantine"
        if hidden:
            details += f"; {counted(hidden, 'record')} not looked for, because quarantine hides their keys"
        if partly_compared := expected.where(is_unreadable).count():
            expected = fill_from_bronze(expected, bronze, table)
            details += (
                f"; {counted(partly_compared, 'row')} not compared in all columns, because this reader cannot read them"
            )
        columns = [quoted_column(name) for name in table.schema.names if name not in table.config.ignore]
        expected, actual = (
            side.join(known_keys, on=keys, how="left_anti").select(*columns) for side in (expected, bronze)
        )
        return compare_rows(claim, Side(f"the snapshot {stamp}", expected), Side("bronze", actual), details)


def _compare_without_key(claim: Claim, table: CheckedTable, snapshot: LandedSnapshot, bronze: DataFrame) -> Check:
    with persist_rows(delivered_rows(table, snapshot)) as rows:
        if reason := unread_reason(table, rows, [table.last_accepted]):
            return claim.not_checkable(reason)
        return compare_counted(claim, table, rows, bronze, snapshot_name(snapshot.time))


def landed_rows(table: CheckedTable, snapshot: LandedSnapshot) -> DataFrame:
    """Return the rows of a snapshot that have a key which was not forgotten, and `UNREADABLE`.

    Args:
        table: The table.
        snapshot: The snapshot, with files that can be read.
    """
    files = [read_typed(table, file, path) for file, path in zip(snapshot.files, snapshot.paths, strict=True)]
    with_key = reduce(DataFrame.unionByName, files).where(_all_not_null(table.config.keys))
    return forgotten_keys.drop_forgotten(with_key, table.config, table.forgotten)


def one_row_per_key(config: Table, rows: DataFrame) -> DataFrame:
    """Return the rows without duplicates; with `duplicates: latest`, the row of the greatest `updated_at` of a key."""
    if config.duplicates != "latest" or config.updated_at is None:
        return rows.distinct()
    row = F.struct(*map(quoted_column, rows.columns)).alias("row")
    newest = F.max(F.struct(quoted_column(config.updated_at), row))
    return rows.groupBy(*map(quoted_column, config.keys)).agg(newest.alias("_cdc_newest")).select("_cdc_newest.row.*")


def fill_from_bronze(rows: DataFrame, bronze: DataFrame, table: CheckedTable) -> DataFrame:
    """Return the rows with bronze's values for nulls of unreadable rows.

    Such a row may have a text that this reader does not know and `ingest` does, such as a time of an unusual pattern.

    Args:
        rows: The rows, with `UNREADABLE`.
        bronze: The current rows of bronze.
        table: The table.
    """
    keys = table.config.keys
    names = [name for name in table.schema.names if name not in keys]
    joined = rows.alias("s").join(bronze.alias("b"), on=keys, how="left")
    is_unreadable = F.col(UNREADABLE).isNotNull()
    filled = [
        F.when(is_unreadable, F.coalesce(f"s.`{n}`", f"b.`{n}`")).otherwise(F.col(f"s.`{n}`")).alias(n) for n in names
    ]
    return joined.select(*map(quoted_column, keys), *filled).distinct()


def quarantined_keys(table: CheckedTable, since: int | None = None) -> DataFrame:
    """Return the keys of the rows that snapshots left in quarantine, and whether each is certain.

    Args:
        table: The table.
        since: The sequence of the first of these snapshots; None: the last accepted one alone.
    """
    keys = table.config.keys
    if not delta.exists(table.spark, table.lake.quarantine_table(table.name)):
        schema = T.StructType([field for field in table.schema if field.name in keys])
        return local_frame(table.spark, schema.add(_IS_KEY_KNOWN, T.BooleanType()))
    received = F.from_json("row", F.lit("map<string, string>"))
    texts = F.transform_keys(received, lambda name, _: F.lower(name))
    names = {key: F.lit(table.config.name_in_files(key).lower()) for key in keys}
    of_keys = {
        key: without_null_texts(table.config, key, F.try_element_at(texts, name), is_of_reader=False)
        for key, name in names.items()
    }
    values = [parse_text(table, table.schema[key], text) for key, text in of_keys.items()]
    # A record of the wrong length has no column at fault: what seems to be its key may be another field.
    rows = _quarantined_rows(table, since).select(*values, F.col("column").isNotNull().alias(_IS_KEY_KNOWN))
    by_key = rows.where(_all_not_null(keys)).groupBy(*map(quoted_column, keys))
    return by_key.agg(F.bool_or(_IS_KEY_KNOWN).alias(_IS_KEY_KNOWN))


def known_keys_of(quarantined: DataFrame) -> DataFrame:
    """Return the keys in quarantine that are certain."""
    return quarantined.where(_IS_KEY_KNOWN).drop(_IS_KEY_KNOWN)


def count_hidden_rows(table: CheckedTable, since: int | None = None) -> int:
    """Return the number of records that quarantine hides, because of pii columns.

    Args:
        table: The table.
        since: The sequence of the first of the snapshots; None: the last accepted one alone.
    """
    if not table.config.pii or not delta.exists(table.spark, table.lake.quarantine_table(table.name)):
        return 0
    rows = _quarantined_rows(table, since).where(F.col("row") == pii.MASK)
    return int(rows.agg(F.coalesce(F.sum("occurrences"), F.lit(0))).collect()[0][0])


def _quarantined_rows(table: CheckedTable, since: int | None) -> DataFrame:
    last = table.last_accepted.sequence or 0
    rows = delta.read(table.spark, table.lake.quarantine_table(table.name)).where(F.col("stage") == "ingest")
    return rows.where((F.col("first_sequence") <= last) & (F.col("last_sequence") >= (since or last)))


def compare_with_change_sets(claim: Claim, table: CheckedTable, bronze: DataFrame, keys: DataFrame) -> Check:
    """Check that bronze has, for the given keys, the row of the newest change set that has the key.

    Args:
        claim: The claim.
        table: The table.
        bronze: The current rows of bronze.
        keys: The keys to compare.
    """
    if not (key_count := keys.count()):
        return claim.holds("no key in quarantine")
    key_names = table.config.keys
    try:
        changes = table.read_change_sets().where(~F.col("_cdc_operation").isin(GOES_MISSING, IS_BACK))
        newest = F.max_by(F.struct(*map(quoted_column, changes.columns)), "_cdc_sequence").alias("_cdc_newest")
        folded = changes.groupBy(*map(quoted_column, key_names)).agg(newest).select("_cdc_newest.*")
        # The `_cdc_*` columns of an open window are of the change that opened it, which need not be the last one.
        columns = [c for c in bronze.columns if table.config.scd == 1 or c in table.schema.names]
        expected, actual = (
            side.join(keys, on=key_names, how="left_semi").select(*map(quoted_column, columns))
            for side in (folded.where("_cdc_operation <> 'D'"), bronze)
        )
        return compare_rows(claim, Side("the change sets", expected), Side("bronze", actual), counted(key_count, "key"))
    except Exception as error:
        if is_gone(error):
            return claim.not_checkable("change sets no longer exist")
        raise


def _all_not_null(columns: list[str]) -> Column:
    return reduce(Column.__and__, [quoted_column(name).isNotNull() for name in columns])
