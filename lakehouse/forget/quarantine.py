"""Take a person's rows out of quarantine."""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.config import Table
from lakehouse.forget.landing import DataSubject
from lakehouse.lake import delta
from lakehouse.lake.merge import merge_to_match
from lakehouse.lake.quarantine import KEY_PREFIX, KEYS, read_stage
from lakehouse.schema.cast import cast_text
from lakehouse.schema.table_schema import stored_schema
from lakehouse.storage.paths import Lake


def erase(spark: SparkSession, lake: Lake, name: str, table: Table, timezone: str, subject: DataSubject) -> int:
    """Take out the rows that have a person's key, or that are no rows and name it; returns how many there were."""
    path = lake.quarantine_table(name)
    if not delta.exists(spark, path):
        return 0
    rows = delta.read(spark, path).where(F.col("stage") == "ingest")
    texts = F.transform_keys(F.from_json("row", F.lit("map<string, string>")), lambda told, _: F.lower(told))
    kinds = {f.name: f.dataType for f in stored_schema(table)}
    # By the files' name of a column or, of rows from before there were `names`, by its own.
    told = {
        k: [F.try_element_at(texts, F.lit(n.lower())) for n in (table.name_in_files(k), k)] for k in subject.key_texts
    }
    key = {k: cast_text(F.coalesce(*each), kinds[k], timezone, table.options)[0] for k, each in told.items()}
    keyed = rows.select(*KEYS, *[value.alias(f"{KEY_PREFIX}{n}") for n, value in enumerate(key.values())])
    wanted = subject.stored_key.toDF(*[f"{KEY_PREFIX}{n}" for n in range(len(key))])
    own = keyed.join(F.broadcast(wanted), on=wanted.columns, how="left_semi").select(*KEYS)
    unread = rows.where(F.col("column").isNull()).select(*KEYS, "row")
    named = [tuple(r)[:-1] for r in unread.toLocalIterator() if subject.is_named_in(r["row"] or "")]
    doomed = own.unionByName(spark.createDataFrame(named, own.schema)).distinct()
    return merge_to_match(spark, path, rows.limit(0), KEYS, {"stage": "forget"}, doomed, expect_few=True).deleted


def erase_resolved(spark: SparkSession, lake: Lake, models: list[str]) -> int:
    """Take out the rows of models that are no longer out: whose they were, nobody can tell. Returns how many."""
    erased = 0
    for stage, _, name in (model.partition(".") for model in models):
        if delta.exists(spark, path := lake.quarantine_table(name)):
            doomed = read_stage(spark, lake, name, stage).where("resolved").select(*KEYS)
            rows = delta.read(spark, path)
            erased += merge_to_match(
                spark, path, rows.limit(0), KEYS, {"stage": "forget"}, doomed, expect_few=True
            ).deleted
    return erased
