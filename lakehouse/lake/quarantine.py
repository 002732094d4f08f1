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
from lakehouse.lake.merge import make_equal
from lakehouse.spark.session import local_frame
from lakehouse.storage.paths import Lake

KEYS = ["stage", "row_hash", "rule"]
_TOLD = ["row", "column", "value", "line", "reason"]
_OWN = "_cdc_own_"
COLUMNS = [*KEYS, *_TOLD, "occurrences", "first_sequence", "last_sequence", "resolved"]


def write(spark: SparkSession, lake: Lake, table: str, rows: DataFrame | None, stage: str, sequence: int) -> None:
    """Record the refused rows of one sequence.

    Args:
        rows: `row`, `column`, `value`, `line`, `reason` and `rule`; None: there are none.
    """
    path = lake.quarantine_table(table)
    known = delta.read(spark, path).where(F.col("stage") == stage) if delta.exists(spark, path) else None
    if rows is None and (known is None or known.where(~F.col("resolved")).isEmpty()):
        return
    old = (known if known is not None else _empty(spark)).where(F.col("first_sequence") < sequence)
    new = _keyed(rows, stage, sequence) if rows is not None else _empty(spark)
    told = [F.coalesce(f"n.{c}", f"o.{c}").alias(c) for c in [*KEYS, *_TOLD, "occurrences"]]
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
    make_equal(spark, path, wanted, KEYS, {"sequence": sequence}, touched, few=True)


def _keyed(rows: DataFrame, stage: str, sequence: int) -> DataFrame:
    grouped = (
        rows.withColumn("row_hash", F.sha2("row", 256))
        .groupBy("row_hash", "rule")
        .agg(*[F.min(c).alias(c) for c in _TOLD], F.count("*").alias("occurrences"))
    )
    at = F.lit(sequence).cast("long")
    return grouped.select(
        F.lit(stage).alias("stage"),
        "row_hash",
        "rule",
        *_TOLD,
        "occurrences",
        at.alias("first_sequence"),
        at.alias("last_sequence"),
        F.lit(False).alias("resolved"),
    )


def _empty(spark: SparkSession) -> DataFrame:
    return local_frame(
        spark,
        "stage STRING, row_hash STRING, rule STRING, row STRING, column STRING, value STRING, line BIGINT,"
        " reason STRING, occurrences BIGINT, first_sequence BIGINT, last_sequence BIGINT, resolved BOOLEAN",
    )


def current(spark: SparkSession, lake: Lake, table: str, last_sequence: int) -> DataFrame:
    """What is, or was, in quarantine by the sequences that the ledger accepted."""
    return _stored(spark, lake, table, "ingest").where(F.col("first_sequence") <= last_sequence)


def _stored(spark: SparkSession, lake: Lake, name: str, stage: str) -> DataFrame:
    path = lake.quarantine_table(name)
    rows = delta.read(spark, path) if delta.exists(spark, path) else _empty(spark)
    return rows.where(F.col("stage") == stage)


# --- of models --------------------------------------------------------------------------------------------------------

_JSON = {"ignoreNullFields": "false", "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}


@dataclass(frozen=True)
class Standing:
    """What a model's quarantine holds: rows in all, those that are out by rule, and whether all of it is as the newest
    version of the model's table has it; not so, where a run was killed before that version came."""

    rows: int
    out: Mapping[str, int]
    in_step: bool


def row_text(columns: list[str]) -> Column:
    """A row as quarantine has it: JSON that tells any two rows apart."""
    return F.to_json(F.struct(*[F.col(f"`{c}`") for c in columns]), _JSON)


def standing(spark: SparkSession, lake: Lake, model: str, version: int) -> Standing:
    """How a model's quarantine stands beside `version`, the newest of the model's table that is a refresh's."""
    stage, _, name = model.partition(".")
    if not delta.exists(spark, lake.quarantine_table(name)):
        return Standing(0, {}, True)
    counts = _stored(spark, lake, name, stage).groupBy("rule", "resolved")
    found = counts.agg(F.count("*").alias("rows"), F.count_if(_is_ahead(version)).alias("ahead")).collect()
    out = {row.rule: row.rows for row in found if not row.resolved}
    return Standing(sum(row.rows for row in found), out, not any(row.ahead for row in found))


def of_model(spark: SparkSession, lake: Lake, model: str, version: int) -> DataFrame:
    """What is, or was, taken out of a model by the version of its table."""
    stage, _, name = model.partition(".")
    rows = _stored(spark, lake, name, stage).where(F.col("first_sequence") <= version)
    return rows.withColumn("resolved", _is_back(version))


def _is_ahead(version: int) -> Column:
    """Whether a row was written for a version that never came, or is still to come."""
    return (F.col("first_sequence") > version) | (F.col("resolved") & (F.col("last_sequence") >= version))


def _is_back(version: int, of: str = "") -> Column:
    return F.coalesce(F.col(f"{of}resolved") & (F.col(f"{of}last_sequence") < version), F.lit(False))


def write_of_model(
    spark: SparkSession, lake: Lake, model: str, rows: DataFrame | None, touched: DataFrame | None, at: int, to: int
) -> bool:
    """Record what a refresh takes out of a model, before it is written; returns whether that is other than what was.

    Args:
        rows: `row`, `column`, `value`, `line`, `reason` and `rule`; None: it takes out none.
        touched: the keys that the refresh is about, or what rows have in common with them; None: all of them.
        at, to: the newest version of the model's table that is a refresh's, and the least that this one can become.
    """
    stage, _, name = model.partition(".")
    known = _stored(spark, lake, name, stage)
    if touched is not None:
        known = _of_keys(known, touched)
    if rows is None:
        if known.where(~F.col("resolved") | _is_ahead(at)).isEmpty():
            return False
        rows = local_frame(spark, "row STRING, column STRING, value STRING, line BIGINT, reason STRING, rule STRING")
    old, new = known.where(F.col("first_sequence") <= at), _keyed(rows, stage, to)
    here, was_back = F.col("n.stage").isNotNull(), _is_back(at, "o.")
    is_new = F.col("o.stage").isNull() | was_back
    first, last = F.col("o.first_sequence"), F.when(was_back, F.col("o.last_sequence")).otherwise(F.lit(to - 1))
    wanted = (
        old.alias("o")
        .join(new.alias("n"), on=[F.col(f"o.{k}") == F.col(f"n.{k}") for k in KEYS], how="full")
        .select(
            *[F.coalesce(f"n.{c}", f"o.{c}").alias(c) for c in [*KEYS, *_TOLD, "occurrences"]],
            F.when(here & is_new, F.lit(to)).otherwise(first).cast("long").alias("first_sequence"),
            F.when(~here, last).cast("long").alias("last_sequence"),
            (~here).alias("resolved"),
        )
    )
    keys = known.select(*KEYS).unionByName(wanted.select(*KEYS)).distinct()
    path = lake.quarantine_table(name)
    return make_equal(spark, path, wanted, KEYS, {"stage": stage, "model": model}, keys, few=True).committed


def _of_keys(known: DataFrame, touched: DataFrame) -> DataFrame:
    """The rows in quarantine that have one of the keys: compared as JSON has them, which is how rows are kept."""
    names = [F.lit(c.lower()) for c in touched.columns]
    theirs = touched.select(row_text(touched.columns).alias("row")).select(*_texts(names)).distinct()
    ours = known.select("*", *_texts(names))
    same = [F.col(f"q.{_OWN}{n}").eqNullSafe(F.col(f"t.{_OWN}{n}")) for n in range(len(names))]
    kept = ours.alias("q").join(theirs.alias("t"), on=reduce(Column.__and__, same), how="left_semi")
    return kept.select(*COLUMNS)


def _texts(names: list[Column]) -> list[Column]:
    members = F.transform_keys(F.from_json("row", F.lit("map<string, string>")), lambda told, _: F.lower(told))
    return [F.try_element_at(members, name).alias(f"{_OWN}{n}") for n, name in enumerate(names)]
