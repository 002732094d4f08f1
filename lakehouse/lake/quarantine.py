"""Rows that were refused, kept until a snapshot no longer has them. Keyed by (stage, row, rule).

Written before the ledger row that makes its sequence real; `current` shows accepted sequences only, and writing a
sequence again takes back what an unpublished attempt at it had written.

Rows that a model's expectations took out (stage silver or gold) are numbered by the versions of the model's table
instead: from `first_sequence` to `last_sequence` it was without the row, up to now where that is null. They are written
before the version that is without them; `of_model` shows what is so by the versions that are there, `standing` tells of
others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.lake import delta
from lakehouse.lake.merge import merge_to_match
from lakehouse.spark.session import local_frame
from lakehouse.storage.paths import Lake

KEYS = ["stage", "row_hash", "rule"]
_DETAILS = ["row", "column", "value", "line", "reason"]
KEY_PREFIX = "_cdc_own_"
COLUMNS = [*KEYS, *_DETAILS, "occurrences", "first_sequence", "last_sequence", "resolved"]


def write_of_table(
    spark: SparkSession, lake: Lake, table: str, rows: DataFrame | None, stage: str, sequence: int
) -> None:
    """Record the refused rows of one sequence.

    Args:
        rows: `row`, `column`, `value`, `line`, `reason` and `rule`; None: there are none.
    """
    path = lake.quarantine_table(table)
    known = delta.read(spark, path).where(F.col("stage") == stage) if delta.exists(spark, path) else None
    if rows is None and (known is None or known.where(~F.col("resolved")).isEmpty()):
        return
    old = (known if known is not None else _empty_frame(spark)).where(F.col("first_sequence") < sequence)
    new = _grouped_rows(rows, stage, sequence) if rows is not None else _empty_frame(spark)
    told = [F.coalesce(f"n.{c}", f"o.{c}").alias(c) for c in [*KEYS, *_DETAILS, "occurrences"]]
    here = F.col("n.stage").isNotNull()
    same = [F.col(f"o.{k}") == F.col(f"n.{k}") for k in KEYS]
    wanted = (
        old.alias("o")
        .join(new.alias("n"), on=same, how="full")
        .select(
            *told,
            F.coalesce("o.first_sequence", "n.first_sequence").alias("first_sequence"),
            F.when(here, F.lit(sequence).cast("long"))
            .otherwise(F.least("o.last_sequence", F.lit(sequence - 1).cast("long")))
            .alias("last_sequence"),
            (~here).alias("resolved"),
        )
    )
    touched = known.select(*KEYS).unionByName(wanted.select(*KEYS)).distinct() if known is not None else None
    merge_to_match(spark, path, wanted, KEYS, {"sequence": sequence}, touched, expect_few=True)


def _grouped_rows(rows: DataFrame, stage: str, sequence: int) -> DataFrame:
    grouped = (
        rows.withColumn("row_hash", F.sha2("row", 256))
        .groupBy("row_hash", "rule")
        .agg(*[F.min(c).alias(c) for c in _DETAILS], F.count("*").alias("occurrences"))
    )
    at = F.lit(sequence).cast("long")
    return grouped.select(
        F.lit(stage).alias("stage"),
        "row_hash",
        "rule",
        *_DETAILS,
        "occurrences",
        at.alias("first_sequence"),
        at.alias("last_sequence"),
        F.lit(False).alias("resolved"),
    )


def _empty_frame(spark: SparkSession) -> DataFrame:
    return local_frame(
        spark,
        "stage STRING, row_hash STRING, rule STRING, row STRING, column STRING, value STRING, line BIGINT,"
        " reason STRING, occurrences BIGINT, first_sequence BIGINT, last_sequence BIGINT, resolved BOOLEAN",
    )


def read_of_table(spark: SparkSession, lake: Lake, table: str, last_sequence: int) -> DataFrame:
    """What is, or was, in quarantine by the sequences that the ledger accepted."""
    return read_stage(spark, lake, table, "ingest").where(F.col("first_sequence") <= last_sequence)


def read_stage(spark: SparkSession, lake: Lake, name: str, stage: str) -> DataFrame:
    path = lake.quarantine_table(name)
    rows = delta.read(spark, path) if delta.exists(spark, path) else _empty_frame(spark)
    return rows.where(F.col("stage") == stage)


# --- of models --------------------------------------------------------------------------------------------------------

_JSON_OPTIONS = {"ignoreNullFields": "false", "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}


@dataclass(frozen=True)
class QuarantineState:
    """What a model's quarantine holds: rows in all, those that are out by rule, and whether all of it is as the newest
    version of the model's table has it; not so, where a run was killed before that version came."""

    rows: int
    open_by_rule: Mapping[str, int]
    is_in_step: bool


def row_json(columns: list[str]) -> Column:
    """A row as quarantine has it: JSON that tells any two rows apart."""
    return F.to_json(F.struct(*[F.col(f"`{c}`") for c in columns]), _JSON_OPTIONS)


def read_state(spark: SparkSession, lake: Lake, model: str, version: int) -> QuarantineState:
    """How a model's quarantine stands beside `version`, the newest of the model's table that is a refresh's."""
    stage, _, name = model.partition(".")
    if not delta.exists(spark, lake.quarantine_table(name)):
        return QuarantineState(0, {}, True)
    counts = read_stage(spark, lake, name, stage).groupBy("rule", "resolved")
    found = counts.agg(F.count("*").alias("rows"), F.count_if(_is_of_later_version(version)).alias("ahead")).collect()
    out = {row.rule: row.rows for row in found if not row.resolved}
    return QuarantineState(sum(row.rows for row in found), out, not any(row.ahead for row in found))


def read_of_model(spark: SparkSession, lake: Lake, model: str, version: int) -> DataFrame:
    """What is, or was, taken out of a model by the version of its table."""
    stage, _, name = model.partition(".")
    rows = read_stage(spark, lake, name, stage).where(F.col("first_sequence") <= version)
    return rows.withColumn("resolved", _is_resolved(version))


def _is_of_later_version(version: int) -> Column:
    """Whether a row was written for a version that never came, or is still to come."""
    return (F.col("first_sequence") > version) | (F.col("resolved") & (F.col("last_sequence") >= version))


def _is_resolved(version: int, prefix: str = "") -> Column:
    return F.coalesce(F.col(f"{prefix}resolved") & (F.col(f"{prefix}last_sequence") < version), F.lit(False))


def write_of_model(
    spark: SparkSession,
    lake: Lake,
    model: str,
    rows: DataFrame | None,
    affected: DataFrame | None,
    current_version: int,
    next_version: int,
) -> bool:
    """Record what a refresh takes out of a model, before it is written; returns whether that is other than what was.

    Args:
        rows: `row`, `column`, `value`, `line`, `reason` and `rule`; None: it takes out none.
        touched: the keys that the refresh is about, or what rows have in common with them; None: all of them.
        at, to: the newest version of the model's table that is a refresh's, and the least that this one can become.
    """
    stage, _, name = model.partition(".")
    known = read_stage(spark, lake, name, stage)
    if affected is not None:
        known = _with_keys(known, affected)
    if rows is None:
        if known.where(~F.col("resolved") | _is_of_later_version(current_version)).isEmpty():
            return False
        rows = local_frame(spark, "row STRING, column STRING, value STRING, line BIGINT, reason STRING, rule STRING")
    old, new = known.where(F.col("first_sequence") <= current_version), _grouped_rows(rows, stage, next_version)
    here, was_back = F.col("n.stage").isNotNull(), _is_resolved(current_version, "o.")
    is_new = F.col("o.stage").isNull() | was_back
    first, last = (
        F.col("o.first_sequence"),
        F.when(was_back, F.col("o.last_sequence")).otherwise(F.lit(next_version - 1)),
    )
    wanted = (
        old.alias("o")
        .join(new.alias("n"), on=[F.col(f"o.{k}") == F.col(f"n.{k}") for k in KEYS], how="full")
        .select(
            *[F.coalesce(f"n.{c}", f"o.{c}").alias(c) for c in [*KEYS, *_DETAILS, "occurrences"]],
            F.when(here & is_new, F.lit(next_version)).otherwise(first).cast("long").alias("first_sequence"),
            F.when(~here, last).cast("long").alias("last_sequence"),
            (~here).alias("resolved"),
        )
    )
    keys = known.select(*KEYS).unionByName(wanted.select(*KEYS)).distinct()
    path = lake.quarantine_table(name)
    return merge_to_match(spark, path, wanted, KEYS, {"stage": stage, "model": model}, keys, expect_few=True).committed


def _with_keys(known: DataFrame, affected: DataFrame) -> DataFrame:
    """The rows in quarantine that have one of the keys: compared as JSON has them, which is how rows are kept."""
    names = [F.lit(c.lower()) for c in affected.columns]
    theirs = affected.select(row_json(affected.columns).alias("row")).select(*_key_values(names)).distinct()
    ours = known.select("*", *_key_values(names))
    same = [F.col(f"q.{KEY_PREFIX}{n}").eqNullSafe(F.col(f"t.{KEY_PREFIX}{n}")) for n in range(len(names))]
    kept = ours.alias("q").join(theirs.alias("t"), on=reduce(Column.__and__, same), how="left_semi")
    return kept.select(*COLUMNS)


def _key_values(names: list[Column]) -> list[Column]:
    members = F.transform_keys(F.from_json("row", F.lit("map<string, string>")), lambda told, _: F.lower(told))
    return [F.try_element_at(members, name).alias(f"{KEY_PREFIX}{n}") for n, name in enumerate(names)]
