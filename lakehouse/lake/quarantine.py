"""Keeps rejected rows in quarantine until they are no longer delivered. A row of it has the key (stage, row, rule).

Rows of a table (stage `ingest`) are written before the ledger row that publishes their sequence. `read_of_table`
returns those of accepted sequences only, and writing a sequence again replaces the rows of an unpublished attempt.

Rows that a model's expectations reject (stage `silver` or `gold`) are numbered by versions of the model's table: it is
without the row from version `first_sequence` to `last_sequence`, or until now if that is null. They are written before
the version that leaves them out. `read_of_model` returns the rows rejected as of a version, and `read_state` whether
there are rows of versions that do not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.config.ddl import quote_identifier
from lakehouse.config.tuning import Tuning
from lakehouse.lake import delta
from lakehouse.lake.merge import MergeTarget, merge_to_match
from lakehouse.lake.slice_columns import slice_frame, slice_in_quarantine
from lakehouse.lake.slices import Slices
from lakehouse.lake.table_ref import TableRef
from lakehouse.spark.session import local_frame
from lakehouse.storage.paths import Lake

KEYS = ["stage", "row_hash", "rule"]
_DETAILS = ["row", "column", "value", "line", "reason"]
KEY_PREFIX = "_cdc_own_"
_SLICE, _IS_OTHER_SLICE = "_cdc_slice", "_cdc_is_other_slice"
COLUMNS = [*KEYS, *_DETAILS, "occurrences", "first_sequence", "last_sequence", "resolved"]
_SCHEMA = (
    "stage STRING, row_hash STRING, rule STRING, row STRING, column STRING, value STRING, line BIGINT, reason STRING,"
    " occurrences BIGINT, first_sequence BIGINT, last_sequence BIGINT, resolved BOOLEAN"
)
_REJECTED_SCHEMA = "row STRING, column STRING, value STRING, line BIGINT, reason STRING, rule STRING"
_JSON_OPTIONS = {"ignoreNullFields": "false", "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}


def row_json(columns: list[str]) -> Column:
    """Return a row as JSON, by which any two different rows differ."""
    return F.to_json(F.struct(*map(quote_identifier, columns)), _JSON_OPTIONS)


def read_stage(spark: SparkSession, lake: Lake, name: str, stage: str) -> DataFrame:
    """Return all rows of one stage in the quarantine of a table or model, those of versions that do not exist too.

    Args:
        spark: The session to read in.
        lake: The lake.
        name: The table, or the model without its layer.
        stage: `ingest`, `silver` or `gold`.
    """
    return delta.read_or_empty(spark, lake.quarantine_table(name), _SCHEMA).where(F.col("stage") == stage)


def _grouped_rows(rejected: DataFrame, stage: str, sequence: int) -> DataFrame:
    """Return rejected rows as quarantine rows of one sequence, equal ones counted."""
    grouped = (
        rejected.withColumn("row_hash", F.sha2("row", 256))
        .groupBy("row_hash", "rule")
        .agg(*[F.min(c).alias(c) for c in _DETAILS], F.count("*").alias("occurrences"))
    )
    number = F.lit(sequence).cast("long")
    return grouped.select(
        F.lit(stage).alias("stage"),
        "row_hash",
        "rule",
        *_DETAILS,
        "occurrences",
        number.alias("first_sequence"),
        number.alias("last_sequence"),
        F.lit(False).alias("resolved"),
    )


def _join_by_key(old: DataFrame, new: DataFrame) -> tuple[DataFrame, list[Column]]:
    """Return old (`o`) and new (`n`) quarantine rows side by side, and the columns that a new row replaces."""
    same_key = [F.col(f"o.{k}") == F.col(f"n.{k}") for k in KEYS]
    joined = old.alias("o").join(new.alias("n"), on=same_key, how="full")
    return joined, [F.coalesce(f"n.{c}", f"o.{c}").alias(c) for c in [*KEYS, *_DETAILS, "occurrences"]]


# --- of tables --------------------------------------------------------------------------------------------------------


def write_of_table(
    table: TableRef,
    rejected: DataFrame | None,
    sequence: int,
    slices: Slices | None = None,
    time_zone: str = "UTC",
) -> None:
    """Record the rows that `ingest` rejected in one sequence; those recorded before and not among them are resolved.

    Not so of a feed: a batch does not repeat the events of those before it. Nor does a snapshot repeat the rows of
    slices that it does not contain.

    Args:
        table: The table.
        rejected: `row`, `column`, `value`, `line`, `reason` and `rule`; None: no row was rejected.
        sequence: The sequence that the ledger is about to accept.
        slices: The slices that its snapshot contains; None: it is the whole table.
        time_zone: The zone of timestamps that name none.
    """
    spark, address = table.spark, table.quarantine
    known = delta.read(spark, address).where("stage = 'ingest'") if delta.exists(spark, address) else None
    if rejected is None and known is None:
        return
    keeps, is_affected = table.config.feed is not None, F.col("first_sequence") >= sequence
    if not keeps:
        is_affected = is_affected | ~F.col("resolved")
    if rejected is None and known is not None and known.where(is_affected).isEmpty():
        return
    empty = local_frame(spark, _SCHEMA)
    old = (known if known is not None else empty).where(F.col("first_sequence") < sequence)
    old = (
        old.withColumn(_IS_OTHER_SLICE, F.lit(False)) if slices is None else _mark_others(table, old, slices, time_zone)
    )
    joined, columns = _join_by_key(old, _grouped_rows(rejected, "ingest", sequence) if rejected is not None else empty)
    is_rejected = F.col("n.stage").isNotNull()
    last_before = F.least("o.last_sequence", F.lit(sequence - 1).cast("long"))
    is_kept = F.coalesce(f"o.{_IS_OTHER_SLICE}", F.lit(False)) & ~is_rejected
    is_resolved = F.lit(False) if keeps else F.when(is_kept, F.col("o.resolved")).otherwise(~is_rejected)
    wanted = joined.select(
        *columns,
        F.coalesce("o.first_sequence", "n.first_sequence").alias("first_sequence"),
        F.when(is_rejected, F.lit(sequence).cast("long")).otherwise(last_before).alias("last_sequence"),
        is_resolved.alias("resolved"),
    )
    affected = known.select(*KEYS).unionByName(wanted.select(*KEYS)).distinct() if known is not None else None
    target = MergeTarget(spark, address, KEYS, tuning=table.tuning)
    merge_to_match(target, wanted, {"sequence": sequence}, affected, expect_few=True)


def read_at_sequence(table: TableRef, sequence: int) -> DataFrame:
    """Return the rows that `ingest` had in a table's quarantine when a sequence was the last one.

    Args:
        table: The table.
        sequence: The sequence; 0: before the first one.
    """
    rows = _rows_of_ingest(table).where(F.col("first_sequence") <= sequence)
    last = F.least("last_sequence", F.lit(sequence).cast("long"))
    # An open row may have an older sequence: later snapshots did not contain its slice.
    is_resolved = F.col("resolved") & (F.col("last_sequence") < sequence)
    return rows.withColumn("resolved", is_resolved).withColumn("last_sequence", last)


def replace_of_table(table: TableRef, wanted: DataFrame, sequence: int) -> None:
    """Make the rows that `ingest` has in a table's quarantine equal to others, by difference.

    Args:
        table: The table.
        wanted: The rows, as a quarantine has them.
        sequence: The last sequence that they belong to.
    """
    affected = _rows_of_ingest(table).select(*KEYS).unionByName(wanted.select(*KEYS)).distinct()
    target = MergeTarget(table.spark, table.quarantine, KEYS, tuning=table.tuning)
    merge_to_match(target, wanted, {"sequence": sequence}, affected, expect_few=True)


def _rows_of_ingest(table: TableRef) -> DataFrame:
    return delta.read_or_empty(table.spark, table.quarantine, _SCHEMA).where("stage = 'ingest'")


def _mark_others(table: TableRef, rows: DataFrame, slices: Slices, time_zone: str) -> DataFrame:
    """Return rows of a quarantine with whether each is of a slice that a snapshot does not contain.

    The slice of a row that cannot be read is not known; the next snapshot then resolves the row.
    """
    contained = slice_frame(table.spark, slices, _SLICE).withColumn(_IS_OTHER_SLICE, F.lit(False))
    rows = rows.withColumn(_SLICE, slice_in_quarantine(table.config, slices.columns, time_zone))
    joined = rows.join(F.broadcast(contained), on=_SLICE, how="left")
    is_other = F.coalesce(_IS_OTHER_SLICE, F.col(_SLICE).isNotNull()).alias(_IS_OTHER_SLICE)
    return joined.select(*COLUMNS, is_other)


def read_of_table(spark: SparkSession, lake: Lake, table: str, last_sequence: int) -> DataFrame:
    """Return the rows that are or were in a table's quarantine.

    Args:
        spark: The session to read in.
        lake: The lake.
        table: The table's name.
        last_sequence: The last sequence that the ledger accepted.
    """
    return read_stage(spark, lake, table, "ingest").where(F.col("first_sequence") <= last_sequence)


# --- of models --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QuarantineState:
    """The quarantine of a model, compared with the current version of the model's table.

    Attributes:
        rows: How many rows it has in all.
        open_by_rule: How many of them the model is without, by rule.
        is_in_step: Whether all rows are of versions that exist. They are not if a run was killed before it wrote the
            model.
    """

    rows: int
    open_by_rule: Mapping[str, int]
    is_in_step: bool


@dataclass(frozen=True)
class RejectedRows:
    """The rows that a refresh rejects.

    Attributes:
        rows: `row`, `column`, `value`, `line`, `reason` and `rule`; None: it rejects none.
        affected: The keys of the refresh, or columns that rows have in common with them; None: all rows.
        current_version: The newest version of the model's table that a refresh made.
        next_version: The least version that this refresh can make.
    """

    rows: DataFrame | None
    affected: DataFrame | None
    current_version: int
    next_version: int


def read_state(spark: SparkSession, lake: Lake, model: str, version: int) -> QuarantineState:
    """Return how a model's quarantine compares with `version`, the newest of its table that a refresh made."""
    stage, _, name = model.partition(".")
    if not delta.exists(spark, lake.quarantine_table(name)):
        return QuarantineState(0, {}, True)
    groups = read_stage(spark, lake, name, stage).groupBy("rule", "resolved")
    counts = groups.agg(F.count("*").alias("rows"), F.count_if(_is_of_later_version(version)).alias("later")).collect()
    open_by_rule = {row.rule: row.rows for row in counts if not row.resolved}
    return QuarantineState(sum(row.rows for row in counts), open_by_rule, not any(row.later for row in counts))


def read_of_model(spark: SparkSession, lake: Lake, model: str, version: int) -> DataFrame:
    """Return the rows that expectations rejected up to a version of the model's table.

    Args:
        spark: The session to read in.
        lake: The lake.
        model: The model, as `silver.clientes`.
        version: The newest version that a refresh made. A row that it has again is `resolved`.
    """
    stage, _, name = model.partition(".")
    rows = read_stage(spark, lake, name, stage).where(F.col("first_sequence") <= version)
    return rows.withColumn("resolved", _is_resolved(version))


def _is_of_later_version(version: int) -> Column:
    """Return whether a row was written for a version that does not exist, or not yet."""
    return (F.col("first_sequence") > version) | (F.col("resolved") & (F.col("last_sequence") >= version))


def _is_resolved(version: int, prefix: str = "") -> Column:
    return F.coalesce(F.col(f"{prefix}resolved") & (F.col(f"{prefix}last_sequence") < version), F.lit(False))


def write_of_model(
    spark: SparkSession, lake: Lake, model: str, rejected: RejectedRows, tuning: Tuning | None = None
) -> bool:
    """Record the rows that a refresh rejects, before the model is written.

    Args:
        spark: A session that nobody else uses.
        lake: The lake.
        model: The model, as `silver.clientes`.
        rejected: The rejected rows.
        tuning: The thresholds of the run; None: their defaults.

    Returns:
        Whether quarantine changed.
    """
    stage, _, name = model.partition(".")
    current, following = rejected.current_version, rejected.next_version
    known, rows = read_stage(spark, lake, name, stage), rejected.rows
    if rejected.affected is not None:
        known = _with_keys(known, rejected.affected)
    if rows is None:
        if known.where(~F.col("resolved") | _is_of_later_version(current)).isEmpty():
            return False
        rows = local_frame(spark, _REJECTED_SCHEMA)
    old = known.where(F.col("first_sequence") <= current)
    joined, columns = _join_by_key(old, _grouped_rows(rows, stage, following))
    is_rejected, was_resolved = F.col("n.stage").isNotNull(), _is_resolved(current, "o.")
    is_new = F.col("o.stage").isNull() | was_resolved
    first = F.when(is_rejected & is_new, F.lit(following)).otherwise(F.col("o.first_sequence"))
    last = F.when(was_resolved, F.col("o.last_sequence")).otherwise(F.lit(following - 1))
    wanted = joined.select(
        *columns,
        first.cast("long").alias("first_sequence"),
        F.when(~is_rejected, last).cast("long").alias("last_sequence"),
        (~is_rejected).alias("resolved"),
    )
    affected = known.select(*KEYS).unionByName(wanted.select(*KEYS)).distinct()
    target = MergeTarget(spark, lake.quarantine_table(name), KEYS, tuning=tuning or Tuning())
    return merge_to_match(target, wanted, {"stage": stage, "model": model}, affected, expect_few=True).committed


def _with_keys(known: DataFrame, affected: DataFrame) -> DataFrame:
    """Return the quarantine rows that have one of the keys, compared as JSON, in which quarantine keeps rows."""
    names = [F.lit(c.lower()) for c in affected.columns]
    keys = affected.select(row_json(affected.columns).alias("row")).select(*_key_values(names)).distinct()
    rows = known.select("*", *_key_values(names))
    same_key = [F.col(f"q.{KEY_PREFIX}{n}").eqNullSafe(F.col(f"k.{KEY_PREFIX}{n}")) for n in range(len(names))]
    matching = rows.alias("q").join(keys.alias("k"), on=reduce(Column.__and__, same_key), how="left_semi")
    return matching.select(*COLUMNS)


def _key_values(names: list[Column]) -> list[Column]:
    members = F.transform_keys(F.from_json("row", F.lit("map<string, string>")), lambda key, _: F.lower(key))
    return [F.try_element_at(members, name).alias(f"{KEY_PREFIX}{n}") for n, name in enumerate(names)]
