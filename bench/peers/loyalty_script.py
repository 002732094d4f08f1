"""Runs the loyalty pipeline as a script that an able engineer writes in an afternoon, with the pipeline's SQL.

MERGEs every snapshot in full into bronze, and overwrites every table of silver and gold. It keeps no change sets, no
ledger and no quarantine, and checks nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from lakehouse.spark.session import default_settings, get_session, isolated_session
from lakehouse.storage.paths import Lake

PIPELINE = Path(__file__).resolve().parents[2] / "conf" / "loyalty"


def tuned_session(folder: Path, snapshot: Path) -> SparkSession:
    """Return a session with this project's settings for a local Spark and data of this size."""
    size = sum(file.stat().st_size for file in snapshot.iterdir())
    return isolated_session(get_session(Lake(str(folder / "session")), "script", data_bytes=size), size)


def default_session() -> SparkSession:
    """Return a session with Spark's own settings, and those that Delta and times in UTC need."""
    builder = SparkSession.builder.appName("script")
    for key, value in default_settings().items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def update_lake(spark: SparkSession, lake: Path, snapshot: Path) -> None:
    """Bring all tables of a lake up to date with a snapshot."""
    pipeline = yaml.safe_load((PIPELINE / "pipeline.yml").read_text(encoding="utf-8"))
    for name, table in pipeline["tables"].items():
        merge_snapshot(spark, lake / "bronze" / name, snapshot / table["file"], table)
    for layer in ("silver", "gold"):
        for model in pipeline[layer]:
            query = (PIPELINE / layer / f"{model}.sql").read_text(encoding="utf-8")
            query = query.replace(":business_timezone", f"'{pipeline['business_timezone']}'")
            query = re.sub(r"\b(bronze|silver)\.(\w+)", rf"delta.`{lake}/\1/\2`", query)
            spark.sql(query).write.format("delta").mode("overwrite").save(str(lake / layer / model))


def merge_snapshot(spark: SparkSession, table: Path, file: Path, options: dict[str, Any]) -> None:
    """Make a bronze table equal to a CSV file."""
    rows = spark.read.csv(str(file), schema=options["schema"], header=True, **options["options"])
    if not DeltaTable.isDeltaTable(spark, str(table)):
        rows.write.format("delta").save(str(table))
        return
    same_key = " AND ".join(f"t.{key} = s.{key}" for key in options["keys"])
    merge = DeltaTable.forPath(spark, str(table)).alias("t").merge(rows.alias("s"), same_key)
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().whenNotMatchedBySourceDelete().execute()
