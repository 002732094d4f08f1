"""Take a person's rows out of change sets."""

from __future__ import annotations

import json
from collections import Counter

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.forget.landing import DataSubject
from lakehouse.ingest.readers import parquet_reader
from lakehouse.lake.change_sets import ERASED_KEY, count_erased_in_file
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.paths import Lake


def erase(spark: SparkSession, lake: Lake, folder: StorePath, subject: DataSubject) -> int:
    """Take a person's rows out of a change set; returns how many there were.

    Each file is put in its own place whole, and says in its metadata what was taken out of it: the ledger goes on
    telling what the change set held when it was published.
    """
    where = [F.col("_metadata.file_name").alias("_cdc_file"), F.col("_metadata.row_index").alias("_cdc_at")]
    rows = spark.read.parquet(escape_glob(folder))
    there = rows.select(*subject.key_texts, "_cdc_operation", *where)
    doomed: dict[str, dict[int, str]] = {}
    for row in subject.rows_in(there).collect():
        doomed.setdefault(row["_cdc_file"], {})[row["_cdc_at"]] = row["_cdc_operation"]
    for name, taken in doomed.items():
        with file_io.atomic_rewrite(folder / name, lake.local_path("plain")) as (path, without):
            total = count_erased_in_file(path) + Counter(taken.values())
            parquet_reader.copy_without(path, without, set(taken), {ERASED_KEY: json.dumps(total)})
    return sum(map(len, doomed.values()))
