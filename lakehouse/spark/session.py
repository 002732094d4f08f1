"""The Spark session: the one that is there (a notebook, Databricks, spark-submit), or a local one made for the job.

The only module that may reach under the DataFrame API.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from lakehouse.errors import ConfigError, InfrastructureError
from lakehouse.storage import file_io
from lakehouse.storage.paths import Lake

# What the code relies on, whatever session it meets: set on a session of our own, never on the user's.
REQUIRED_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "false",
    "spark.sql.csv.parser.columnPruning.enabled": "false",  # a pruned parser overlooks ragged rows
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # every reader's, unlike INT96
    "spark.sql.legacy.javaCharsets": "true",  # Windows-1252 and the like, for CSV
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    # What the planner infers of a change set's columns doubles with each of them: with 20 it would never end.
    "spark.sql.constraintPropagation.enabled": "false",
    # Delta's parser drops the arguments of spark.sql(..., args) from Spark 4.1 on (delta-io/delta#7640).
    "spark.sql.legacy.parameterSubstitution.constantsOnly": "true",
}

# How Parquet is written, by every stage: what it takes on disk and what reading it costs is in docs/bench.md.
PARQUET_SETTINGS = {
    "spark.sql.parquet.compression.codec": "zstd",
    "parquet.writer.version": "v2",  # differences of numbers and times, lengths of texts apart from their letters
}

# For work on little data: compiling code and planning anew by what a stage produced cost more than they save.
SMALL_DATA_SETTINGS = {
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
SMALL_DATA_BYTES = 32 << 20

# A laptop's session: measured in docs/decisions/0004-local-session.md.
_CORES = str(min(os.cpu_count() or 2, 8))
LOCAL_SETTINGS = {
    "spark.master": f"local[{_CORES}]",
    "spark.sql.shuffle.partitions": _CORES,
    "spark.default.parallelism": _CORES,
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": _CORES,
    "spark.databricks.delta.snapshotPartitions": "1",
    # Delta keeps the state of each table it has seen for an hour, megabytes each, and up to 10,000 of them.
    "spark.databricks.delta.delta.log.cacheSize": "100",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "3g",
    # The least that a hash table or a sort takes, were it for one row. By its heap Spark would make it 32 MB.
    "spark.buffer.pageSize": "1m",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.streaming.stopTimeout": "60s",
}
_JAVA_OPTIONS = "-Xss4m -Duser.timezone=UTC -XX:ReservedCodeCacheSize=256m"
# C1 only: small jobs end before C2 pays. C1 alone shrinks the code cache to 48 MB, which fills within a minute and
# stops compilation; hence the explicit size.
_JAVA_OPTIONS_SMALL = f"{_JAVA_OPTIONS} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
_JAVA_OPTIONS_LARGE = f"{_JAVA_OPTIONS} -XX:+UseParallelGC"
_BYTES_PER_PARTITION = 128 << 20  # of the source's files, in one partition of a shuffle


def default_settings() -> dict[str, str]:
    """`spark-defaults.conf` of the package: Delta's packages, extension and catalog, for any master."""
    text = (resources.files("lakehouse") / "spark" / "spark-defaults.conf").read_text(encoding="utf-8")
    pairs = (line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {key: value.strip() for key, value in pairs}


def get_session(lake: Lake, app_name: str, verbose: bool = False, data_bytes: int = 0) -> SparkSession:
    """The session to work in.

    Args:
        size: bytes of the data it is for: what starts fast on little data is slow on much.

    Raises:
        ConfigError: the session that is there does not know Delta.
        InfrastructureError: no JVM could be started.
    """
    spark = SparkSession.getActiveSession()
    if spark is None:
        spark = _start_session(lake, app_name, verbose, data_bytes)
    _require_delta(spark, lake)
    return isolated_session(spark)


def isolated_session(spark: SparkSession, data_bytes: int | None = None) -> SparkSession:
    """A session of its own on the same cluster: its settings and temporary views are seen by nobody else.

    Args:
        size: bytes of the data it is for, if known: little data gets settings that plan less, much data smaller parts.
    """
    own = spark.newSession()
    by_size = {}
    if data_bytes is not None and data_bytes < SMALL_DATA_BYTES:
        by_size = SMALL_DATA_SETTINGS
    elif data_bytes is not None:
        parts = max(int(own.conf.get("spark.sql.shuffle.partitions") or 1), -(-data_bytes // _BYTES_PER_PARTITION))
        by_size = {"spark.sql.shuffle.partitions": str(parts)}
    for key, value in (REQUIRED_SETTINGS | PARQUET_SETTINGS | by_size).items():
        own.conf.set(key, value)
    return own


def local_frame(spark: SparkSession, schema: str | T.StructType, rows: Iterable[tuple[Any, ...]] = ()) -> DataFrame:
    """Rows that the driver has, as a DataFrame. By way of Arrow: as such they would pass through a Python worker.

    Args:
        schema: their columns, as a type or as Spark DDL.
        rows: values in the schema's order; times with their zone.
    """
    fields = T.DataType.fromDDL(schema) if isinstance(schema, str) else schema
    assert isinstance(fields, T.StructType)
    columns = to_arrow_schema(fields, timezone="UTC")
    table = pa.Table.from_pylist([dict(zip(fields.names, row, strict=True)) for row in rows], schema=columns)
    return spark.createDataFrame(table, fields)


def jvm_pid(spark: SparkSession) -> int | None:
    """The driver JVM's process id, where there is one on this machine (None under Spark Connect)."""
    try:
        return int(spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid())  # type: ignore[union-attr]
    except Exception:  # Spark Connect has no JVM to ask; what it raises depends on its version
        return None


def _start_session(lake: Lake, app_name: str, verbose: bool, data_bytes: int) -> SparkSession:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # workers run this Python, not the first on the PATH
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # by spark-submit: its JVM is up, and its settings stand
    given = _submitted_settings() if submitted else {}
    is_local = given.get("spark.master", "local").startswith("local")
    java = {
        "spark.driver.extraJavaOptions": _JAVA_OPTIONS_SMALL if data_bytes < SMALL_DATA_BYTES else _JAVA_OPTIONS_LARGE
    }
    settings = (
        default_settings() | file_io.spark_settings(lake.path()) | (LOCAL_SETTINGS | java if is_local else {}) | given
    )
    builder = SparkSession.builder.appName(app_name)
    for key, value in settings.items():
        builder = builder.config(key, value)
    log = lake.local_path("logs", "spark.log")
    try:
        with _redirect_jvm_stderr(log, disabled=verbose or submitted), _keep_sigint_handler():
            spark = builder.getOrCreate()
    except Exception as error:
        raise InfrastructureError(
            f"Spark did not start: {_first_line(error)}",
            expected="Java 17 or later, and the Delta packages in reach at first use",
            where=str(log) if log.exists() else "",
            next_step=f"read {log}, or run again with --verbose",
        ) from error
    spark.sparkContext.setLogLevel("WARN" if verbose else "ERROR")
    if not verbose:  # PySpark logs what it raises, Java trace included; we tell it ourselves
        for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    return spark


@contextmanager
def _keep_sigint_handler() -> Iterator[None]:
    """PySpark takes SIGINT for itself; whoever has taken it before, for an orderly end, keeps it."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not signal.default_int_handler and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _submitted_settings() -> dict[str, str]:
    """What spark-submit was told. Python hears of it only through the JVM, which has to be asked for first."""
    SparkContext._ensure_initialized()
    return dict(SparkConf().getAll())


def _require_delta(spark: SparkSession, lake: Lake) -> None:
    try:
        DeltaTable.isDeltaTable(spark, str(lake.local_path("no-table")))
        extensions = spark.conf.get("spark.sql.extensions", "") or ""
    except Exception as error:  # what is raised for a class that is not there depends on how Spark is reached
        extensions, reason = "", f": {_first_line(error)}"
    else:
        reason = ""
    if "io.delta" not in extensions and "DATABRICKS_RUNTIME_VERSION" not in os.environ:  # there it needs none
        raise ConfigError(
            f"this Spark session does not know Delta Lake{reason}",
            expected="the packages, extension and catalog of conf/spark-defaults.conf",
            next_step="spark-submit --properties-file conf/spark-defaults.conf jobs/run.py PIPELINE",
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


# What a failing Spark action raises: PySpark wraps some of what Py4J reports, not all.
SPARK_ERRORS = (PySparkException, Py4JJavaError)

_MAX_LOG_BYTES = 10 << 20
_stderr_lock = threading.Lock()


@contextmanager
def _redirect_jvm_stderr(log: Path, disabled: bool) -> Iterator[None]:
    """Let the JVM that is started inside inherit a log file as its stderr: nobody reads Ivy's resolution report."""
    if disabled:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with _stderr_lock, log.open("ab") as file:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
