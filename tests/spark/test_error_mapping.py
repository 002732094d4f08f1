"""Any exception becomes one short text with the correct exit code, and never a Java stack."""

from __future__ import annotations

import errno
import re
import socket
from types import SimpleNamespace

import pytest
from py4j.clientserver import ClientServerConnection, JavaParameters, PythonParameters
from py4j.java_gateway import GatewayProperty
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import AnalysisException, PySparkException, PySparkValueError
from pyspark.sql.classic.dataframe import DataFrame

from lakehouse.error_mapping import is_transient, retry_transient, to_lakehouse_error
from lakehouse.errors import ConfigError, DataRefused, ExitCode, InfrastructureError, LakeBusy, LakehouseError

JAVA = re.compile(r"^\s*(at [\w.$/]+\(|Caused by:|\.\.\. \d+ more)|JVM stacktrace|Traceback", re.MULTILINE)

FROM_PY4J = """An error occurred while calling o45.save.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 1.0 failed 1 times: {cause}
\tat org.apache.spark.scheduler.DAGScheduler.failJobAndIndependentStages(DAGScheduler.scala:2856)
\tat java.base/java.lang.Thread.run(Thread.java:840)
Caused by: {cause}
\tat org.apache.hadoop.fs.RawLocalFileSystem$LocalFSFileOutputStream.write(RawLocalFileSystem.java:354)
\t... 12 more
"""
FROM_SPARK = """[UNRESOLVED_COLUMN] A column with name `x` cannot be resolved. SQLSTATE: 42703; line 1 pos 7;
'Project ['x]
+- Relation

JVM stacktrace:
org.apache.spark.sql.AnalysisException
\tat org.apache.spark.sql.errors.QueryCompilationErrors$.unresolved(QueryCompilationErrors.scala:432)
"""


@pytest.mark.parametrize(
    "error", [ConfigError("a"), InfrastructureError("b"), DataRefused("c"), LakeBusy("d"), LakehouseError("e")]
)
def test_a_project_error_is_returned_unchanged(error: LakehouseError) -> None:
    assert to_lakehouse_error(error) is error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        ConnectionResetError("Connection reset by peer"),
        BrokenPipeError("gone"),
        MemoryError(),
        Py4JError("py4j.reflection does not exist in the JVM"),  # the JVM has ended
        Py4JNetworkError("Answer from Java side is empty"),
        Py4JNetworkError("Error while receiving"),
        Py4JError("An error occurred while calling o286.get"),  # the JVM ended before it answered
        Exception(FROM_PY4J.format(cause="java.io.IOException: No space left on device")),
        Exception(FROM_PY4J.format(cause="java.lang.OutOfMemoryError: Java heap space")),
        PySparkException("Connection refused: localhost/127.0.0.1:1"),
        Exception(FROM_PY4J.format(cause="org.apache.hadoop.fs.s3a.AWSStatus500Exception: PUT on s3a://lake/x: 503")),
        Exception(FROM_PY4J.format(cause="org.apache.spark.SparkException: [DELTA_CONCURRENT_APPEND] files")),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[-40:]!r}"[:60],
)
def test_an_environment_failure_is_an_infrastructure_error(error: Exception) -> None:
    mapped = to_lakehouse_error(error)

    assert isinstance(mapped, InfrastructureError)
    assert mapped.exit_code == ExitCode.INFRASTRUCTURE
    assert mapped.found
    assert mapped.next_step


def error_of_ended_jvm() -> Exception:
    """Return the error of Py4J if nobody listens at the JVM's port any more."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    gateway = GatewayProperty(auto_field=False, pool=None)
    connection = ClientServerConnection(JavaParameters(port=port), PythonParameters(), gateway, None)
    with pytest.raises(ConnectionRefusedError, match="Connection refused") as refused:
        connection.connect_to_java_server()
    return refused.value


def test_a_jvm_that_has_ended_is_named_by_whatever_py4j_raises() -> None:
    error = to_lakehouse_error(error_of_ended_jvm())

    assert isinstance(error, InfrastructureError)
    assert error.found == "the JVM of Spark has ended in the middle of the command"


def test_a_jvm_that_has_ended_is_named_if_pyspark_raises_an_error_of_its_own() -> None:
    class Dead:
        def schema(self) -> None:
            raise Py4JError("An error occurred while calling o727.schema")

    with pytest.raises(PySparkValueError, match="CANNOT_PARSE_DATATYPE") as raised:
        DataFrame.schema.func(SimpleNamespace(_jdf=Dead()))  # type: ignore[attr-defined]

    assert to_lakehouse_error(raised.value).found == "the JVM of Spark has ended in the middle of the command"


def test_an_error_that_is_the_cause_of_its_own_cause_is_mapped() -> None:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first

    assert to_lakehouse_error(first).exit_code == ExitCode.BUG


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), KeyError("x"), FileNotFoundError(errno.ENOENT, "gone"), Exception(), AssertionError()],
    ids=repr,
)
def test_any_other_exception_is_a_bug_named_with_its_type(error: Exception) -> None:
    mapped = to_lakehouse_error(error)

    assert mapped.exit_code == ExitCode.BUG
    assert type(error).__name__ in mapped.found
    assert "--verbose" in mapped.next_step


def _failed_task(cause: str) -> PySparkException:
    """An error whose own message does not have the cause: PySpark keeps the Java trace in an attribute."""
    error = PySparkException("[TASK_WRITE_FAILED] Task failed while writing rows to file:/lake/bronze/items.")
    error.__dict__["_stackTrace"] = f"org.apache.spark.SparkException: Job aborted\n\tat a.b(c)\nCaused by: {cause}\n"
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (_failed_task("java.io.IOException: No space left on device"), "java.io.IOException: No space left on device"),
        (_failed_task("java.lang.OutOfMemoryError: Java heap space"), "OutOfMemoryError: Java heap space"),
        (Exception(FROM_PY4J.format(cause="java.io.IOException: No space left on device")), "No space left on device"),
        (Exception(FROM_PY4J.format(cause="java.lang.NullPointerException")), "java.lang.NullPointerException"),
        (AnalysisException(FROM_SPARK), "UNRESOLVED_COLUMN"),
        (Exception("An error occurred while calling o1.x. Trace:\n\tat java.lang.Thread.run(Thread.java:840)"), ""),
    ],
)
def test_the_text_has_the_cause_and_no_java_stack(error: Exception, cause: str) -> None:
    text = to_lakehouse_error(error).to_text()

    assert cause in text
    assert not JAVA.search(text)
    assert len(text.splitlines()) <= 4


def test_a_very_long_message_is_truncated() -> None:
    assert len(to_lakehouse_error(ValueError("x" * 100_000)).to_text()) < 1000


def test_verbose_shows_the_full_trace() -> None:
    try:
        int("x")
    except ValueError as error:
        assert 'int("x")' in to_lakehouse_error(error, verbose=True).where
        assert 'int("x")' not in to_lakehouse_error(error).where


FORBIDDEN = (
    "java.nio.file.AccessDeniedException: s3a://lake/shop/raw/ledger/part-0.parquet: {doing}: "
    "software.amazon.awssdk.services.s3.model.S3Exception: Access Denied (Service: S3, Status Code: 403)"
)


@pytest.mark.parametrize(
    ("doing", "permission"),
    [
        ("Writing Object on shop/raw/ledger/part-0.parquet", "s3:PutObject"),
        ("delete on s3a://lake/shop", "s3:DeleteObject"),
        ("getFileStatus on s3a://lake/shop", "s3:GetObject, and s3:ListBucket"),
    ],
)
def test_a_request_forbidden_by_s3_names_the_object_and_the_permission(doing: str, permission: str) -> None:
    error = Exception(FROM_PY4J.format(cause=FORBIDDEN.format(doing=doing)))
    mapped = to_lakehouse_error(error)

    assert mapped.exit_code == ExitCode.USAGE
    assert (mapped.expected, mapped.where) == (
        f"{permission} on this path",
        "s3a://lake/shop/raw/ledger/part-0.parquet",
    )
    assert not JAVA.search(mapped.to_text())
    assert not is_transient(error), "a retry would not help"


def test_a_session_without_the_s3_packages_gets_the_command_that_adds_them() -> None:
    mapped = to_lakehouse_error(
        Exception(FROM_PY4J.format(cause="Class org.apache.hadoop.fs.s3a.S3AFileSystem not found"))
    )

    assert mapped.exit_code == ExitCode.USAGE
    assert "conf/spark-s3.conf" in mapped.next_step


def test_a_network_failure_is_retried_twice_and_any_other_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    transient = InfrastructureError("change set 2 of items holds 0 rows that can be read")
    transient.__cause__ = Exception(FROM_PY4J.format(cause="java.net.SocketException: Connection reset"))

    refused = error_of_ended_jvm()

    for failures, raises, expected_calls in (
        ([transient] * 2, False, 3),
        ([transient] * 3, True, 3),
        ([ValueError()], True, 1),
        ([refused], True, 1),
    ):
        remaining, calls = list(failures), []

        def work(remaining: list[Exception] = remaining, calls: list[int] = calls) -> str:
            calls.append(1)
            if remaining:
                raise remaining.pop()
            return "done"

        if raises:
            with pytest.raises(type(failures[0])):
                retry_transient(work)
        else:
            assert retry_transient(work) == "done"
        assert len(calls) == expected_calls
