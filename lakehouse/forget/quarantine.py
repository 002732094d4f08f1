"""Take a person's rows out of quarantine."""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.config import Table
from lakehouse.forget.landing import Person
from lakehouse.lake import delta
from lakehouse.lake.merge import make_equal
from lakehouse.lake.quarantine import _OWN, KEYS, _stored
from lakehouse.schema.cast import cast_text
from lakehouse.schema.table_schema import stored_schema
from lakehouse.storage.paths import Lake


def erase(spark: SparkSession, lake: Lake, name: str, table: Table, zone: str, person: Person) -> int:
    """Take out the rows that have a person's key, or that are no rows and name it; returns how many there were."""
    path = lake.quarantine_table(name)
    if not delta.exists(spark, path):
        return 0
    rows = delta.read(spark, path).where(F.col("stage") == "ingest")
    texts = F.transform_keys(F.from_json("row", F.lit("map<string, string>")), lambda told, _: F.lower(told))
    kinds = {f.name: f.dataType for f in stored_schema(table)}
    # By the files' name of a column or, of rows from before there were `names`, by its own.
    told = {k: [F.try_element_at(texts, F.lit(n.lower())) for n in (table.name_in_files(k), k)] for k in person.texts}
    key = {k: cast_text(F.coalesce(*each), kinds[k], zone, table.options)[0] for k, each in told.items()}
    keyed = rows.select(*KEYS, *[value.alias(f"{_OWN}{n}") for n, value in enumerate(key.values())])
    wanted = person.stored.toDF(*[f"{_OWN}{n}" for n in range(len(key))])
    own = keyed.join(F.broadcast(wanted), on=wanted.columns, how="left_semi").select(*KEYS)
    unread = rows.where(F.col("column").isNull()).select(*KEYS, "row")
    named = [tuple(r)[:-1] for r in unread.toLocalIterator() if person.is_named_in(r["row"] or "")]
    doomed = own.unionByName(spark.createDataFrame(named, own.schema)).distinct()
    return make_equal(spark, path, rows.limit(0), KEYS, {"stage": "forget"}, doomed, few=True).deleted


def erase_back(spark: SparkSession, lake: Lake, models: list[str]) -> int:
    """Take out the rows of models that are no longer out: whose they were, nobody can tell. Returns how many."""
    erased = 0
    for stage, _, name in (model.partition(".") for model in models):
        if delta.exists(spark, path := lake.quarantine_table(name)):
            doomed = _stored(spark, lake, name, stage).where("resolved").select(*KEYS)
            rows = delta.read(spark, path)
            erased += make_equal(spark, path, rows.limit(0), KEYS, {"stage": "forget"}, doomed, few=True).deleted
    return erased
