"""Checks I6: a table in PostgreSQL equals the lake's table at the version that PostgreSQL records.

Its rows are read over PostgreSQL's binary protocol and compared by Spark. None of the functions that wrote them is
used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from lakehouse.lake.marked_rows import live_rows
from lakehouse.publish import catalog
from lakehouse.publish.catalog import PostgresTable, PublishPosition
from lakehouse.publish.connection import Connection, connect
from lakehouse.runner.context import Run
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import file_io
from lakehouse.storage.delta_log import commit_id
from lakehouse.storage.file_io import escape_glob
from lakehouse.verify.check import Check, Claim, Side, compare_rows, is_gone
from lakehouse.verify.jsonb import read_jsonb

_BATCH_ROWS = 20_000
_JSON_TYPES = (T.ArrayType, T.StructType, T.MapType)


def check_published(spark: SparkSession, run: Run, postgres: Postgres, source: str) -> Check:
    """Check that a published table has the rows of the lake's table.

    Args:
        spark: The session to compare in.
        run: The command, for its lake.
        postgres: Where tables are published to.
        source: The published table or model, such as `gold.daily`.
    """
    claim = Claim("I6", "PostgreSQL = the lake at the version it names", source)
    with file_io.shared_temp_dir(run.lake.state_path("verify"), run.lake.local_path("verify")) as temp_dir:
        file = temp_dir.local / "published.parquet"
        try:
            with connect(postgres.url) as connection:
                table = catalog.resolve_table(connection, postgres.tables[source])
                with connection.transaction():
                    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    connection.execute("SET LOCAL TimeZone = 'UTC'")
                    position = catalog.read_position(connection, table)
                    if position is None:
                        return claim.not_checkable("it was never published")
                    if not _is_position_in_lake(spark, run, source, position):
                        return claim.not_checkable(
                            "the table in the lake was replaced since, and waits to be published"
                        )
                    expected = live_rows(source, delta.read(spark, run.lake.table(source), position.version))
                    columns = catalog.read_column_types(connection, table)
                    if one_sided := sorted(set(columns) ^ set(expected.columns)):
                        return claim.fails(f"columns on one side only: {', '.join(one_sided)}")
                    _copy_to_parquet(connection, table, expected.schema, file)
        except ValueError as error:
            return claim.fails(f"a value in PostgreSQL is not of the lake's type: {type(error).__name__}")
        except LakehouseError as error:
            return claim.not_checkable(f"PostgreSQL cannot be read: {error.found}")
        except SPARK_ERRORS as error:
            if not is_gone(error):
                raise
            return claim.not_checkable("that version can no longer be read")
        actual = spark.read.schema(expected.schema).parquet(escape_glob(temp_dir.executor_path(file)))
        details = f"{table} at version {position.version}"
        return compare_rows(claim, Side("the lake", expected), Side("PostgreSQL", actual), details)


def _is_position_in_lake(spark: SparkSession, run: Run, source: str, position: PublishPosition) -> bool:
    """Return whether the lake's table is the one of a publish position, with that commit in its log."""
    version = delta.current_version(spark, run.lake.table(source))
    if version is None or version.id != position.lake_table_id or version.version < position.version:
        return False
    return commit_id(run.lake.path(*source.split(".")), position.version) in (None, position.commit_id)


def _copy_to_parquet(connection: Connection, table: PostgresTable, schema: T.StructType, file: Path) -> None:
    """Copy a table's rows in batches to a Parquet file of the lake's types.

    Raises:
        ValueError: A value is not of the lake's type.
    """
    arrow_schema = to_arrow_schema(schema, timezone="UTC")
    # As text, which has all digits of a number.
    names = sql.SQL(", ").join(
        sql.SQL("{}::text" if isinstance(field.dataType, _JSON_TYPES) else "{}").format(sql.Identifier(field.name))
        for field in schema
    )
    query = sql.SQL("SELECT {} FROM {}").format(names, table.identifier)
    with (
        parquet.ParquetWriter(file, arrow_schema) as writer,
        psycopg.ServerCursor(connection, "lakehouse_verify") as cursor,
    ):
        cursor.execute(query, binary=True)
        while rows := cursor.fetchmany(_BATCH_ROWS):
            columns = zip(zip(*rows, strict=True), schema, arrow_schema.types, strict=True)
            arrays = [pa.array(_read(values, field.dataType), arrow_type) for values, field, arrow_type in columns]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=arrow_schema))


def _read(values: tuple[Any, ...], data_type: T.DataType) -> Sequence[Any]:
    return [read_jsonb(value, data_type) for value in values] if isinstance(data_type, _JSON_TYPES) else values
