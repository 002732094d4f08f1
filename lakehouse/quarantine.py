"""Rows that were refused, kept until a snapshot no longer has them. Keyed by (stage, row, rule).

Written before the ledger row that makes its sequence real; `current` shows accepted sequences only, and writing a
sequence again takes back what an unpublished attempt at it had written.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import delta
from lakehouse.config import Table
from lakehouse.lake import Lake
from lakehouse.merge import make_equal
from lakehouse.session import local
from lakehouse.snapshot import schema
from lakehouse.snapshot.convert import convert
from lakehouse.snapshot.erase import Person

KEYS = ["stage", "row_hash", "rule"]
_TOLD = ["row", "column", "value", "line", "reason"]
_OWN = "_cdc_own_"
COLUMNS = [*KEYS, *_TOLD, "occurrences", "first_sequence", "last_sequence", "resolved"]


def write(spark: SparkSession, lake: Lake, table: str, rows: DataFrame | None, stage: str, sequence: int) -> None:
    """Record the refused rows of one sequence.

    Args:
        rows: `row`, `column`, `value`, `line`, `reason` and `rule`; None: there are none.
    """
    path = lake.quarantine(table)
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
    make_equal(spark, path, wanted, KEYS, {"sequence": sequence}, touched)


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
    return local(
        spark,
        "stage STRING, row_hash STRING, rule STRING, row STRING, column STRING, value STRING, line BIGINT,"
        " reason STRING, occurrences BIGINT, first_sequence BIGINT, last_sequence BIGINT, resolved BOOLEAN",
    )


def erase(spark: SparkSession, lake: Lake, name: str, table: Table, zone: str, person: Person) -> int:
    """Take out the rows that have a person's key, or that are no rows and name it; returns how many there were."""
    path = lake.quarantine(name)
    if not delta.exists(spark, path):
        return 0
    rows = delta.read(spark, path)
    texts = F.transform_keys(F.from_json("row", F.lit("map<string, string>")), lambda told, _: F.lower(told))
    kinds = {f.name: f.dataType for f in schema(table)}
    key = {
        k: convert(F.try_element_at(texts, F.lit(k.lower())), kinds[k], zone, table.options)[0] for k in person.texts
    }
    keyed = rows.select(*KEYS, *[value.alias(f"{_OWN}{n}") for n, value in enumerate(key.values())])
    wanted = person.stored.toDF(*[f"{_OWN}{n}" for n in range(len(key))])
    own = keyed.join(F.broadcast(wanted), on=wanted.columns, how="left_semi").select(*KEYS)
    unread = rows.where(F.col("column").isNull()).select(*KEYS, "row")
    named = [tuple(r)[:-1] for r in unread.toLocalIterator() if person.is_named_in(r["row"] or "")]
    doomed = own.unionByName(spark.createDataFrame(named, own.schema)).distinct()
    return make_equal(spark, path, rows.limit(0), KEYS, {"stage": "forget"}, doomed, few=True).deleted


def current(spark: SparkSession, lake: Lake, table: str, last_sequence: int) -> DataFrame:
    """What is, or was, in quarantine by the sequences that the ledger accepted."""
    path = lake.quarantine(table)
    rows = delta.read(spark, path) if delta.exists(spark, path) else _empty(spark)
    return rows.where(F.col("first_sequence") <= last_sequence)
