"""Provides the Spark session: the active one (a notebook, Databricks, spark-submit), or a new local one.

Only this module, `engine/` and, on one machine, `lake/delta_transaction.py` with its callers may use more than the
DataFrame API, such as `sparkContext` and `_jvm`.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.find_spark_home import _find_spark_home
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from lakehouse.error_mapping import first_line
from lakehouse.errors import ConfigError, InfrastructureError
from lakehouse.spark import class_archive
from lakehouse.spark.engine import command as engine_command
from lakehouse.spark.jars import check_jars, downloaded_by_one
from lakehouse.spark.java import require_safe_java
from lakehouse.spark.launch import Launch, permission_settings
from lakehouse.storage import file_io
from lakehouse.storage.paths import Lake
from lakehouse.storage.spark_conf import read_spark_conf

# Settings that the code relies on. They are set on an isolated session, never on the user's.
REQUIRED_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "false",
    "spark.sql.csv.parser.columnPruning.enabled": "false",  # with pruning, the parser does not detect ragged rows
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # every reader supports it, unlike INT96
    "spark.sql.legacy.javaCharsets": "true",  # Windows-1252 and the like, for CSV
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    # Delta gives the rows of a Change Data Feed to Spark as Java objects. Java's older classes of dates have the Julian
    # calendar, which lacks the days from 1582-10-05 to 1582-10-14: they would become 1582-10-15.
    "spark.sql.datetime.java8API.enabled": "true",
    # The constraints that the planner infers for a change set double with each column: with 20 it would not finish.
    "spark.sql.constraintPropagation.enabled": "false",
    # Delta's parser drops the arguments of spark.sql(..., args) from Spark 4.1 on (delta-io/delta#7640).
    "spark.sql.legacy.parameterSubstitution.constantsOnly": "true",
}

# How every stage writes Parquet; docs/bench.md has the sizes and reading times.
PARQUET_SETTINGS = {
    "spark.sql.parquet.compression.codec": "zstd",
    "parquet.writer.version": "v2",  # has delta encodings for numbers, times and texts
}

# For small data, where code generation and adaptive execution cost more than they save.
SMALL_DATA_SETTINGS = {
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
SMALL_DATA_BYTES = 32 << 20

# For a session on a laptop; docs/decisions/0004-local-session.md has the measurements.
_CORES = str(min(os.cpu_count() or 2, 8))
LOCAL_SETTINGS = {
    "spark.master": f"local[{_CORES}]",
    "spark.sql.shuffle.partitions": _CORES,
    "spark.default.parallelism": _CORES,
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": _CORES,
    "spark.databricks.delta.snapshotPartitions": "1",
    # Delta caches the state of each table for an hour: several megabytes each, by default for up to 10,000 tables.
    "spark.databricks.delta.delta.log.cacheSize": "100",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "3g",
    # The minimum size of a hash table or a sort, even for one row. Spark's default for this heap would be 32 MB.
    "spark.buffer.pageSize": "1m",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.streaming.stopTimeout": "60s",
    # PySpark would send the JVM the file and line of each function of a column, with several calls, for its messages.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}
_JAVA_OPTIONS = "-Xss4m -Duser.timezone=UTC -XX:ReservedCodeCacheSize=256m"
# C1 only, because small jobs end before C2 pays off. C1 alone reduces the code cache to 48 MB, which fills within a
# minute and stops compilation; hence the explicit size.
_JAVA_OPTIONS_SMALL = f"{_JAVA_OPTIONS} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
_JAVA_OPTIONS_LARGE = f"{_JAVA_OPTIONS} -XX:+UseParallelGC"
_BYTES_PER_PARTITION = 128 << 20  # bytes of the source's files per shuffle partition
_MAX_LOG_BYTES = 10 << 20
_stderr_lock = threading.Lock()

# The exceptions of a failed Spark action: PySpark wraps some of Py4J's errors, but not all.
SPARK_ERRORS = (PySparkException, Py4JJavaError)


def default_settings() -> dict[str, str]:
    """Return the settings of the package's `spark-defaults.conf`: Delta's packages, extension and catalog."""
    return read_spark_conf("spark-defaults.conf")


def local_launch(lake: Lake, app_name: str, data_bytes: int) -> Launch:
    """Return how a new local Spark is started for a lake.

    Args:
        lake: The lake to work on; its storage needs settings of its own.
        app_name: The application's name.
        data_bytes: The size of the data; a small size selects options that start faster.
    """
    return class_archive.faster_launch(_plain_launch(lake, app_name, data_bytes))


def local_settings(data_bytes: int) -> dict[str, str]:
    """Return the settings of a new local Spark for a size of data, without those that depend on the lake.

    Args:
        data_bytes: The size of the data.
    """
    java_options = _JAVA_OPTIONS_SMALL if data_bytes < SMALL_DATA_BYTES else _JAVA_OPTIONS_LARGE
    return default_settings() | LOCAL_SETTINGS | {"spark.driver.extraJavaOptions": java_options}


def spark_home() -> Path:
    """Return the folder of the Spark that a local session starts."""
    return Path(_find_spark_home())


def get_session(lake: Lake, app_name: str, verbose: bool = False, data_bytes: int = 0) -> SparkSession:
    """Return an isolated session of the active Spark, or of a new local one.

    Args:
        lake: The lake to work on; its storage needs settings of its own.
        app_name: The application's name for a new Spark.
        verbose: Whether the new Spark's log goes to stderr instead of a file.
        data_bytes: The size of the data; a small size selects options that start faster.

    Raises:
        ConfigError: The active session does not support Delta, or its Java damages files.
        InfrastructureError: Spark could not be started.
    """
    spark = SparkSession.getActiveSession()
    if spark is None:
        spark = _start_session(lake, app_name, verbose, data_bytes)
    _require_safe_java(spark)
    _require_delta(spark, lake)
    return isolated_session(spark)


def isolated_session(spark: SparkSession, data_bytes: int | None = None) -> SparkSession:
    """Return a new session of the same Spark, with its own settings and temporary views.

    Args:
        spark: Any session.
        data_bytes: The size of the data, if known: small data gets settings for less planning, large data more
            shuffle partitions.
    """
    isolated = spark.newSession()
    for key, value in (REQUIRED_SETTINGS | PARQUET_SETTINGS).items():
        isolated.conf.set(key, value)
    if data_bytes is not None and data_bytes < SMALL_DATA_BYTES:
        for key, value in SMALL_DATA_SETTINGS.items():
            isolated.conf.set(key, value)
    elif data_bytes is not None:
        _set_partitions(isolated, data_bytes)
    return isolated


def prepare_for(spark: SparkSession, data_bytes: int) -> None:
    """Give an isolated session the settings for a size of data, if it turns out to be large.

    Args:
        spark: The session, which nobody else uses.
        data_bytes: The size of the data.
    """
    if data_bytes < SMALL_DATA_BYTES:
        return
    for key in SMALL_DATA_SETTINGS:
        spark.conf.unset(key)
    _set_partitions(spark, data_bytes)


def _set_partitions(spark: SparkSession, data_bytes: int) -> None:
    configured = int(spark.conf.get("spark.sql.shuffle.partitions") or 1)
    spark.conf.set("spark.sql.shuffle.partitions", str(max(configured, -(-data_bytes // _BYTES_PER_PARTITION))))


class _LazySession:
    """Stands for an isolated session, which is created when something is asked of it."""

    def __init__(self, spark: SparkSession, data_bytes: int) -> None:
        self.__spark, self.__data_bytes = spark, data_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__session, name)

    @cached_property
    def __session(self) -> SparkSession:
        return isolated_session(self.__spark, self.__data_bytes)


def lazy_session(spark: SparkSession, data_bytes: int) -> SparkSession:
    """Return an isolated session that costs nothing until it is used: most tables and models have not changed.

    Args:
        spark: Any session.
        data_bytes: The size of the data.
    """
    return cast(SparkSession, _LazySession(spark, data_bytes))


def has_jvm(spark: SparkSession) -> bool:
    """Return whether the session's JVM can be called from here; it cannot over Spark Connect, as on serverless."""
    return getattr(spark, "_jsparkSession", None) is not None


def is_local(spark: SparkSession) -> bool:
    """Return whether Spark runs in this machine alone, and not on a cluster."""
    return (spark.conf.get("spark.master", None) or "").startswith("local")


def local_frame(spark: SparkSession, schema: str | T.StructType, rows: Iterable[tuple[Any, ...]] = ()) -> DataFrame:
    """Return a DataFrame of rows in the driver's memory; Arrow avoids a Python worker.

    Args:
        spark: The session to create it in.
        schema: The columns, as a type or as Spark DDL.
        rows: Values in the schema's order; times with a zone.
    """
    fields, table = local_rows(schema, rows)
    return spark.createDataFrame(table, fields)


def local_rows(schema: str | T.StructType, rows: Iterable[tuple[Any, ...]]) -> tuple[T.StructType, pa.Table]:
    """Return the columns and the rows of `local_frame` without a session.

    Args:
        schema: The columns, as a type or as Spark DDL.
        rows: Values in the schema's order; times with a zone.
    """
    fields = T.DataType.fromDDL(schema) if isinstance(schema, str) else schema
    assert isinstance(fields, T.StructType)
    columns = to_arrow_schema(fields, timezone="UTC")
    return fields, pa.Table.from_pylist([dict(zip(fields.names, row, strict=True)) for row in rows], schema=columns)


def jvm_pid(spark: SparkSession) -> int | None:
    """Return the process id of the driver's JVM, or None if it is not on this machine (Spark Connect).

    Args:
        spark: Any session.
    """
    try:
        return int(spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid())  # type: ignore[union-attr]
    except Exception:  # Spark Connect has no JVM; the type of the error depends on its version
        return None


def start(launch: Launch, lake: Lake, verbose: bool) -> SparkSession:
    """Start a local Spark.

    Args:
        launch: How it is started. If the JVM does not start with an archive of classes, it is started without.
        lake: The lake, in whose log the JVM writes.
        verbose: Whether the JVM writes to stderr instead.

    Raises:
        InfrastructureError: Spark did not start.
    """
    if not _has_local_dir():
        launch = replace(launch, settings=launch.settings | {"spark.local.dir": _private_temp_dir()})
    try:
        spark = _create_session(launch, lake, log_to_stderr=verbose)
    except InfrastructureError:
        gateway = SparkContext._gateway
        if not class_archive.uses_archive(launch) or (gateway and gateway.proc.poll() is None):
            raise
        class_archive.discard_archive(launch)
        if gateway:  # this process is bound to the JVM that died; the next one starts without the archive
            raise
        launch = class_archive.without_archive(launch)
        spark = _create_session(launch, lake, log_to_stderr=verbose)
    _check_jars(spark)
    class_archive.after_start(launch, _spark_jars(spark), jvm_pid(spark))
    return spark


def _has_local_dir() -> bool:
    """Return whether the user has chosen the folder for data that does not fit in memory."""
    conf = Path(os.environ.get("SPARK_CONF_DIR") or spark_home() / "conf") / "spark-defaults.conf"
    texts = [os.environ.get("PYSPARK_SUBMIT_ARGS", ""), conf.read_text(encoding="utf-8") if conf.is_file() else ""]
    return "SPARK_LOCAL_DIRS" in os.environ or any("spark.local.dir" in text for text in texts)


def _private_temp_dir() -> str:
    """Return a new folder that only this user can open: Spark writes rows there that do not fit in memory."""
    folder = tempfile.mkdtemp(prefix="lakehouse-spark-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _start_session(lake: Lake, app_name: str, verbose: bool, data_bytes: int) -> SparkSession:
    """Return a session of the Spark that spark-submit has started, of a warm engine, or of a new Spark."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # set by spark-submit
        spark = _create_session(_submitted_launch(lake, app_name, data_bytes), lake, log_to_stderr=True)
        _check_jars(spark)
    else:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # workers run this Python, not the first on the PATH
        plain = _plain_launch(lake, app_name, data_bytes)
        engine = None if verbose or lake.catalog else _connect_to_engine(plain)
        spark = engine or start(class_archive.faster_launch(plain), lake, verbose)
    spark.sparkContext.setLogLevel("WARN" if verbose else "ERROR")
    if not verbose:  # PySpark logs each error that it raises, with the Java stack; we report it ourselves
        for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    return spark


def _connect_to_engine(plain: Launch) -> SparkSession | None:
    """Return a session of a warm engine, if this process is a command that may use one."""
    command = engine_command.current()
    if command is None:
        return None
    launch = class_archive.faster_launch(plain)
    with _keep_sigint_handler():
        spark = command.connect(plain, launch)
    if spark:
        _check_jars(spark)
    if spark and command.has_new_engine:
        class_archive.after_start(launch, _spark_jars(spark), jvm_pid(spark))
    return spark


def _check_jars(spark: SparkSession) -> None:
    """Check the jars that Spark downloaded for this session, before a table is read or written.

    Raises:
        ConfigError: One has another content than expected.
    """
    try:
        check_jars(_spark_jars(spark), spark.sparkContext.getConf().get("spark.jars.packages", "") or "")
    except ConfigError:
        spark.stop()
        raise


def _spark_jars(spark: SparkSession) -> str:
    return spark.sparkContext.getConf().get("spark.jars", "") or ""


def _create_session(launch: Launch, lake: Lake, log_to_stderr: bool) -> SparkSession:
    """Create a session with the settings of a launch, in a new JVM or in that of spark-submit."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # workers run this Python, not the first on the PATH
    builder = SparkSession.builder
    for key, value in launch.settings.items():
        builder = builder.config(key, value)
    log = lake.local_path("logs", "spark.log")
    try:
        with (
            _redirect_jvm_stderr(log, disabled=log_to_stderr),
            _keep_sigint_handler(),
            _changed_environment(launch.environment),
            downloaded_by_one(launch.settings),
        ):
            return builder.getOrCreate()
    except Exception as error:
        raise InfrastructureError(
            f"Spark did not start: {first_line(error)}",
            expected="Java 17 or later, and access to the Delta packages at first use",
            where=str(log) if log.exists() else "",
            next_step=f"read {log}, or run again with --verbose",
        ) from error


def _plain_launch(lake: Lake, app_name: str, data_bytes: int) -> Launch:
    """Return how a local Spark is started without an archive of classes."""
    settings = {"spark.app.name": app_name} | local_settings(data_bytes) | file_io.spark_settings(lake.path())
    return Launch(settings | permission_settings())


def _submitted_launch(lake: Lake, app_name: str, data_bytes: int) -> Launch:
    """Return the settings for the Spark of spark-submit, whose own settings take precedence."""
    SparkContext._ensure_initialized()  # connects to the JVM, without which Python does not know the settings
    submitted = dict(SparkConf().getAll())
    if submitted.get("spark.master", "local").startswith("local"):
        return Launch(_plain_launch(lake, app_name, data_bytes).settings | submitted)
    own = default_settings() | permission_settings() | file_io.spark_settings(lake.path())
    return Launch({"spark.app.name": app_name} | own | submitted)


@contextmanager
def _changed_environment(changes: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a process that is started inside, and restore them."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _keep_sigint_handler() -> Iterator[None]:
    """Restore the SIGINT handler for an orderly end, which PySpark replaces by its own."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if handler is not signal.default_int_handler and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def _require_safe_java(spark: SparkSession) -> None:
    """Raise if the driver's Java damages the files that it writes."""
    try:
        version = str(spark.sparkContext._jvm.System.getProperty("java.version"))  # type: ignore[union-attr]
    except Exception:  # Spark Connect has no JVM
        return
    require_safe_java(version)


def _require_delta(spark: SparkSession, lake: Lake) -> None:
    """Raise if the session does not support Delta."""
    reason = ""
    try:
        DeltaTable.isDeltaTable(spark, str(lake.local_path("no-table")))
        extensions = spark.conf.get("spark.sql.extensions", "") or ""
    except Exception as error:  # the type of the error for a missing class depends on how Spark is connected
        extensions, reason = "", f": {first_line(error)}"
    if "io.delta" not in extensions and "DATABRICKS_RUNTIME_VERSION" not in os.environ:  # Databricks needs none
        raise ConfigError(
            f"this Spark session does not support Delta Lake{reason}",
            expected="the packages, extension and catalog of conf/spark-defaults.conf",
            next_step="spark-submit --properties-file conf/spark-defaults.conf jobs/run.py PIPELINE",
        )


@contextmanager
def _redirect_jvm_stderr(log: Path, disabled: bool) -> Iterator[None]:
    """Give a JVM that is started inside a log file as its stderr, because Ivy's report there is of no use to users."""
    if disabled:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with _stderr_lock, log.open("ab") as file:
        sys.stderr.flush()
        original = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
