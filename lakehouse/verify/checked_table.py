"""Defines `CheckedTable`: one table of a pipeline with everything that its checks read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Pipeline, Table
from lakehouse.config.row_keys import COUNTED_COLUMNS
from lakehouse.lake import delta, forgotten_keys
from lakehouse.lake.cdc import DELETE, INSERT, MISSING_SINCE, REPLAYS_KEY, UPDATE
from lakehouse.lake.change_sets import count_erased
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.schema import pii
from lakehouse.storage import file_io
from lakehouse.storage.delta_log import TableVersion
from lakehouse.storage.file_io import escape_glob
from lakehouse.storage.paths import Lake

# By relation. Each is read once, though a table is an input of several models; waiting for a failed read raises its
# error each time, so that every check which needs it reports it.
CurrentVersions = Mapping[str, Future[TableVersion | None]]

COUNT_BY_OPERATION = {INSERT: "inserted", UPDATE: "updated", DELETE: "deleted"}  # the ledger's column for each

NO_SNAPSHOT = "no snapshot was accepted yet"

_CDC_DDL = (
    "_cdc_operation STRING, _cdc_timestamp TIMESTAMP, _cdc_sequence BIGINT, _cdc_changed ARRAY<STRING>,"
    f" {MISSING_SINCE} TIMESTAMP"
)


@dataclass(frozen=True)
class CheckedTable:
    """A table of a pipeline, its ledger history and its bronze table.

    Only `version` and `lag_reason` are of use before the first snapshot is accepted.
    """

    spark: SparkSession
    lake: Lake
    pipeline: Pipeline
    name: str
    history: LedgerHistory
    versions: CurrentVersions

    def with_spark(self, spark: SparkSession) -> CheckedTable:
        """Return the same table in another session."""
        return replace(self, spark=spark)

    @property
    def config(self) -> Table:
        """The table's part of pipeline.yml."""
        return self.pipeline.tables[self.name]

    @property
    def bronze(self) -> str:
        """The address of the bronze table."""
        return self.lake.bronze_table(self.name)

    @property
    def version(self) -> TableVersion | None:
        """The current version of the bronze table; None if there is no table."""
        return self.versions[f"bronze.{self.name}"].result()

    @property
    def accepted(self) -> list[LedgerEntry]:
        """The ledger's entry for each sequence, in order."""
        return self.history.accepted

    @property
    def last_accepted(self) -> LedgerEntry:
        """The entry of the last accepted snapshot."""
        return self.accepted[-1]

    @property
    def file_schema(self) -> T.StructType:
        """The columns as the landed files contain them."""
        return nullable_schema(self.config.schema_ddl)

    @property
    def schema(self) -> T.StructType:
        """The columns as the lake stores them: pii columns may be masked, hashed or dropped; `keys: all` adds two."""
        protected = pii.protected_schema(self.file_schema, self.config)
        counted = ", ".join(f"{column.name} {column.type}" for column in COUNTED_COLUMNS)
        return T.StructType([*protected, *(nullable_schema(counted) if self.config.counts_rows else [])])

    @cached_property
    def forgotten(self) -> frozenset[str]:
        """The list of forgotten keys."""
        return forgotten_keys.read_hashes(self.spark, self.lake, self.name)

    @cached_property
    def unverifiable_sequences(self) -> frozenset[int]:
        """Sequences whose change set was dropped, and with it perhaps the count of rows erased from it."""
        dropped = {entry.sequence or 0 for entry in self.accepted if self.history.is_dropped(entry)}
        return frozenset(dropped if self.forgotten else ())

    @cached_property
    def erased_counts(self) -> dict[str, Counter[str]]:
        """The number of rows that were erased from each change set, by its path and then by their operation."""
        entries = (*self.accepted, *self.history.entries_to_fold)
        paths = sorted({entry.path for entry in entries if entry.path})
        return dict(zip(paths, file_io.map_paths(count_erased, map(self.lake.path, paths)), strict=True))

    def is_fully_erased(self, entry: LedgerEntry) -> bool:
        """Return whether every row of an entry's change set was erased, so that applying it writes nothing."""
        return entry.path is not None and self.erased_counts[entry.path].total() == entry.changed_rows

    @property
    def lag_reason(self) -> str:
        """Which accepted change sets are not in bronze yet, by its newest commit; empty if all are."""
        version = self.version
        commits = version.commits if version else ()
        applied = next((c.metadata["sequence"] for c in commits if "sequence" in c.metadata), None if version else 0)
        replays = next((c.metadata.get(REPLAYS_KEY, 0) for c in commits if "sequence" in c.metadata), 0)
        if version and replays != len(self.history.replay_starts):
            return "change sets wait to be applied: they were numbered again"
        if applied is None:
            return ""  # every commit is from another writer: the table is compared as it is
        waiting = [e.sequence for e in self.accepted if (e.sequence or 0) > applied and has_commit(e)]
        return f"change sets wait to be applied: bronze is at {applied} of {waiting[-1]}" if waiting else ""

    def read_current_rows(self) -> DataFrame:
        """Return bronze's current rows; of a history (scd 2), the open windows without their times.

        They have `_cdc_missing_since`, and include the rows of missing keys and those marked as deleted.
        """
        rows = delta.read(self.spark, self.bronze)
        if MISSING_SINCE not in rows.columns:
            rows = rows.withColumn(MISSING_SINCE, F.lit(None).cast("timestamp"))
        return rows.where("__END_AT IS NULL").drop("__START_AT", "__END_AT") if self.config.scd == 2 else rows

    def read_change_sets(self) -> DataFrame:
        """Return the rows of all change sets that were published and not dropped, by the declared schema."""
        paths = [escape_glob(self.lake.spark_path(e.path)) for e in self.history.entries_to_fold if e.path]
        schema = T.StructType([*self.schema, *nullable_schema(_CDC_DDL)])
        return self.spark.read.schema(schema).parquet(*paths)


def has_commit(entry: LedgerEntry) -> bool:
    """Return whether applying an accepted entry makes a commit in bronze: it changes rows, or is the first."""
    return bool(entry.changed_rows) or entry.sequence == 1


def nullable_schema(ddl: str) -> T.StructType:
    """Return the schema of a DDL text with every column nullable."""
    declared = T.DataType.fromDDL(ddl)
    assert isinstance(declared, T.StructType)
    return T.StructType([T.StructField(field.name, field.dataType) for field in declared])
