"""I6: a table in PostgreSQL is the lake's table at the version that PostgreSQL names.

Its rows come back over PostgreSQL's binary protocol, and are compared by Spark: nothing here is of what wrote them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
from psycopg import sql
from pyarrow import parquet
from pyspark.sql import SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from lakehouse.config import Postgres
from lakehouse.errors import LakehouseError
from lakehouse.lake import delta
from lakehouse.publish import catalog
from lakehouse.publish.catalog import PostgresTable, PublishPosition
from lakehouse.publish.connection import Connection, connect
from lakehouse.runner.context import Run
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import file_io
from lakehouse.storage.delta_log import commit_id
from lakehouse.storage.file_io import escape_glob
from lakehouse.verify.check import Check, Claim, compare_rows, is_gone

_BATCH_ROWS = 20_000


def published_checks(spark: SparkSession, run: Run, postgres: Postgres, source: str) -> Iterator[Check]:
    """The one check of a table that is published."""
    claim = Claim("I6", "PostgreSQL = the lake at the version it names", source)
    with file_io.shared_temp_dir(run.lake.state_path("verify"), run.lake.local_path("verify")) as scratch:
        file = scratch.local / "published.parquet"
        try:
            with connect(postgres.url) as connection:
                place = catalog.resolve_table(connection, postgres.tables[source])
                with connection.transaction():
                    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    connection.execute("SET LOCAL TimeZone = 'UTC'")
                    at = catalog.read_position(connection, place)
                    if why := _not_checkable_reason(spark, run, source, at):
                        yield claim.not_checkable(why)
                        return
                    assert at is not None
                    wanted = delta.read(spark, run.lake.table(source), at.version)
                    there = catalog.read_column_types(connection, place)
                    if strangers := sorted(set(there) ^ set(wanted.columns)):
                        yield claim.fails(f"columns on one side only: {', '.join(strangers)}")
                        return
                    _copy_to_parquet(connection, place, wanted.schema, file)
        except LakehouseError as error:
            yield claim.not_checkable(f"PostgreSQL cannot be asked: {error.found}")
            return
        except SPARK_ERRORS as error:
            if not is_gone(error):
                raise
            yield claim.not_checkable("that version can no longer be read")
            return
        found = spark.read.schema(wanted.schema).parquet(escape_glob(scratch.executor_path(file)))
        yield compare_rows(claim, wanted, found, ("the lake", "PostgreSQL"), f"{place} at version {at.version}")


def _not_checkable_reason(spark: SparkSession, run: Run, source: str, at: PublishPosition | None) -> str:
    if at is None:
        return "it was never published"
    head = delta.current_version(spark, run.lake.table(source))
    commit = commit_id(run.lake.path(*source.split(".")), at.version)
    if head is None or head.id != at.lake_table_id or head.version < at.version or commit not in (None, at.commit_id):
        return "the table in the lake is another one by now, and waits to be published"
    return ""


def _copy_to_parquet(connection: Connection, place: PostgresTable, fields: T.StructType, file: Path) -> None:
    """The table's rows, some of them at a time, in a Parquet file of the lake's types.

    Raises:
        pa.ArrowInvalid: a value that they have not.
    """
    schema = to_arrow_schema(fields, timezone="UTC")
    names = sql.SQL(", ").join(sql.Identifier(f.name) for f in fields)
    query = sql.SQL("SELECT {} FROM {}").format(names, place.identifier)
    with (
        parquet.ParquetWriter(file, schema) as writer,
        psycopg.ServerCursor(connection, "lakehouse_verify") as cursor,
    ):
        cursor.execute(query, binary=True)
        while rows := cursor.fetchmany(_BATCH_ROWS):
            columns = [
                pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
