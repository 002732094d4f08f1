"""Whatever was raised ends as one short block with the right code, and never with a Java stack."""

from __future__ import annotations

import errno
import re

import pytest
from pyspark.errors import AnalysisException, PySparkException

from lakehouse.error_mapping import is_transient, to_lakehouse_error, with_retries
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
def test_our_own_errors_pass_through(error: LakehouseError) -> None:
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
        Exception(FROM_PY4J.format(cause="java.io.IOException: No space left on device")),
        Exception(FROM_PY4J.format(cause="java.lang.OutOfMemoryError: Java heap space")),
        PySparkException("Connection refused: localhost/127.0.0.1:1"),
        Exception(FROM_PY4J.format(cause="org.apache.hadoop.fs.s3a.AWSStatus500Exception: PUT on s3a://lake/x: 503")),
        Exception(FROM_PY4J.format(cause="org.apache.spark.SparkException: [DELTA_CONCURRENT_APPEND] files")),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[-40:]!r}"[:60],
)
def test_what_the_surroundings_lack_is_worth_retrying(error: Exception) -> None:
    told = to_lakehouse_error(error)

    assert isinstance(told, InfrastructureError)
    assert told.exit_code == ExitCode.INFRASTRUCTURE
    assert told.found
    assert told.next_step


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), KeyError("x"), FileNotFoundError(errno.ENOENT, "gone"), Exception(), AssertionError()],
    ids=repr,
)
def test_anything_else_is_a_bug_and_is_told_with_its_type(error: Exception) -> None:
    told = to_lakehouse_error(error)

    assert told.exit_code == ExitCode.BUG
    assert type(error).__name__ in told.found
    assert "--verbose" in told.next_step


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Exception(FROM_PY4J.format(cause="java.io.IOException: No space left on device")), "No space left on device"),
        (Exception(FROM_PY4J.format(cause="java.lang.NullPointerException")), "java.lang.NullPointerException"),
        (AnalysisException(FROM_SPARK), "UNRESOLVED_COLUMN"),
        (Exception("An error occurred while calling o1.x. Trace:\n\tat java.lang.Thread.run(Thread.java:840)"), ""),
    ],
)
def test_the_block_says_what_went_wrong_without_a_java_stack(error: Exception, told: str) -> None:
    block = to_lakehouse_error(error).to_text()

    assert told in block
    assert not JAVA.search(block)
    assert len(block.splitlines()) <= 4


def test_an_endless_message_is_cut() -> None:
    assert len(to_lakehouse_error(ValueError("x" * 100_000)).to_text()) < 1000


def test_verbose_shows_the_whole_trace() -> None:
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
def test_what_s3_forbids_spark_is_told_with_the_object_and_the_permission(doing: str, permission: str) -> None:
    error = Exception(FROM_PY4J.format(cause=FORBIDDEN.format(doing=doing)))
    told = to_lakehouse_error(error)

    assert told.exit_code == ExitCode.USAGE
    assert (told.expected, told.where) == (f"{permission} there", "s3a://lake/shop/raw/ledger/part-0.parquet")
    assert not JAVA.search(told.to_text())
    assert not is_transient(error), "asking again would not help"


def test_a_session_without_the_packages_for_s3_is_told_how_to_get_them() -> None:
    told = to_lakehouse_error(
        Exception(FROM_PY4J.format(cause="Class org.apache.hadoop.fs.s3a.S3AFileSystem not found"))
    )

    assert told.exit_code == ExitCode.USAGE
    assert "conf/spark-s3.conf" in told.next_step


def test_what_the_network_did_is_begun_again_twice_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    passing = InfrastructureError("change set 2 of items holds 0 rows that can be read")
    passing.__cause__ = Exception(FROM_PY4J.format(cause="java.net.SocketException: Connection reset"))

    for failures, raises, calls in (([passing] * 2, False, 3), ([passing] * 3, True, 3), ([ValueError()], True, 1)):
        left, called = list(failures), []

        def work(left: list[Exception] = left, called: list[int] = called) -> str:
            called.append(1)
            if left:
                raise left.pop()
            return "done"

        if raises:
            with pytest.raises(type(failures[0])):
                with_retries(work)
        else:
            assert with_retries(work) == "done"
        assert len(called) == calls
