"""Maps any exception to one of the project's errors, so that people read one short block and never a Java stack trace.

    to_lakehouse_error    the error that a command ends with
    is_transient          whether the network or an overloaded store failed
    retry_transient       the result of an operation, repeated after such a failure
    sqlstate_kind         whether data or SQL is the cause of an error, by its SQLSTATE

The kind of a failure of the environment is read from the text of its message, because Spark and S3A have no error
classes for it. For the data and the SQL of a model they have: `lakehouse/spark/faults.py` reads them.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

from lakehouse.errors import ConfigError, InfrastructureError, LakehouseError
from lakehouse.retry import RetryPolicy, with_retries
from lakehouse.text import visible

T = TypeVar("T")

FaultKind = Literal["data", "sql"]

_ENVIRONMENT_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EACCES,
    errno.EROFS,
    errno.EMFILE,
    errno.ENOMEM,
    errno.ESTALE,
}
# Parts of Spark's messages that mean that its environment failed, not the code.
_ENVIRONMENT_MESSAGES = (
    "No space left on device",
    "OutOfMemoryError",
    "Disk quota exceeded",
    "DELTA_CONCURRENT",  # another driver wrote to the same table at the same time
    "s3.model.S3Exception",
    "org.apache.hadoop.fs.s3a.AWS",
)
# The same for the network: the next attempt may succeed.
_TRANSIENT_MESSAGES = (
    "Connection refused",
    "Connection reset",
    "ConnectTimeoutException",
    "ConnectionClosedException",
    "NoHttpResponseException",
    "SocketTimeoutException",
    "SocketException",
    "SdkClientException",
    "AWSServiceIOException",
    "AWSServiceThrottledException",
    "AWSStatus500Exception",
    "SlowDown",
    # PostgreSQL
    "server closed the connection unexpectedly",
    "the database system is",  # starting up, shutting down, in recovery mode
    "terminating connection",
)
# Parts of Py4J's messages after the JVM has ended, such as by a lack of memory.
_DEAD_JVM_MESSAGES = (
    *("does not exist in the JVM", "Answer from Java side is empty", "Error while sending", "Error while receiving"),
)
_LOST_ANSWER = re.compile(r"An error occurred while calling \S+")  # and nothing of what Java says about it
# S3A's message about a forbidden request: the object, and the operation on it.
_FORBIDDEN_REQUEST = re.compile(r"AccessDeniedException: (\S+): ([^\n]*(?:S3Exception|Status Code: 403))")
_REQUIRED_PERMISSIONS = {
    "s3:DeleteObject": ("delete",),
    "s3:PutObject": ("put", "upload", "writ", "copy"),
    "s3:ListBucket": ("list",),
    "s3:GetObject, and s3:ListBucket": ("",),
}
# Classes of SQLSTATE (its first two characters), by what has to be corrected. The longest prefix decides.
_SQLSTATE_KINDS: dict[str, FaultKind] = {
    "02": "data",  # no data
    "21": "data",  # cardinality: a scalar subquery has several rows
    "21S": "sql",  # the number of columns differs
    "22": "data",  # data exception: cast, overflow, division by zero, index, date, encoding
    "23": "data",  # constraint violation: CHECK, NOT NULL, duplicate keys of a map
    "54": "data",  # a limit is exceeded, such as the size of an array
    "P0": "data",  # raise_error(), assert_true()
    "07": "sql",  # parameters
    "0A": "sql",  # a feature that is not supported
    "42": "sql",  # syntax error, unknown name, wrong type or number of arguments
    "46": "sql",  # a name of a class, setting or path
}
_MAX_LINE_CHARS = 500
_USERS_MESSAGE = "[USER_RAISED_EXCEPTION]"  # from raise_error() in a model
# In single quotes; in double quotes if it is no type or expression of Spark's, which are in upper case.
_QUOTED_VALUE = re.compile(r"'[^'\n]*'|\"[^a-z0-9\"\n]*[a-z0-9][^\"\n]*\"")
_MASK = "***"
# No timeout: a stage that fails after an hour is retried too.
_TRANSIENT_POLICY = RetryPolicy(attempts=3, wait_max=4.0, timeout=None)


def to_lakehouse_error(error: BaseException, verbose: bool = False) -> LakehouseError:
    """Return `error` as one of the project's errors.

    Args:
        error: Any exception.
        verbose: Whether a bug names its full Python trace, not only the innermost line of this package.

    Returns:
        The error itself if it is one already; a `ConfigError` for a permission or a package that is missing; an
        `InfrastructureError` if the environment failed; else a plain `LakehouseError`, which is a bug.
    """
    if isinstance(error, LakehouseError):
        return error
    if forbidden := _FORBIDDEN_REQUEST.search(_full_text(error)):
        return _missing_permission(*forbidden.groups())
    if "S3AFileSystem not found" in _full_text(error):
        return ConfigError(
            "this Spark session has no packages for S3",
            expected="the packages of conf/spark-s3.conf, for a lake on s3a://",
            next_step="spark-submit --load-spark-defaults --properties-file conf/spark-s3.conf jobs/run.py PIPELINE",
        )
    if _has_jvm_ended(error):
        return InfrastructureError(
            "the JVM of Spark has ended in the middle of the command",
            expected="a JVM with enough memory: a single value of hundreds of megabytes needs more than the default",
            next_step="look for OutOfMemoryError above; give Spark more memory (spark.driver.memory), then run the same"
            " command again",
        )
    if _is_environment_failure(error):
        message = _environment_line(error)
        return InfrastructureError(
            message,
            kept=None if isinstance(error, OSError) else without_values(message),  # it quotes a path only
            expected="enough disk space, memory, permissions and connections",
            next_step="run the same command again",
        )
    return LakehouseError(
        f"{type(error).__name__}: {first_line(error)}",
        kept=f"{type(error).__name__}: {without_values(first_line(error))}",
        where=traceback.format_exc() if verbose else _innermost_location(error),
        next_step="run again with --verbose for the full trace; this is a bug",
    )


def sqlstate_kind(sqlstate: str) -> FaultKind | None:
    """Return whether data or SQL caused an error with a SQLSTATE; None if neither did.

    >>> sqlstate_kind("22018"), sqlstate_kind("42703"), sqlstate_kind("XX000")
    ('data', 'sql', None)

    Args:
        sqlstate: Five characters, or an empty text if it is not known.
    """
    return next((kind for size in (3, 2) if (kind := _SQLSTATE_KINDS.get(sqlstate[:size]))), None)


def _missing_permission(path: str, operation: str) -> ConfigError:
    request = operation.partition(" on ")[0]
    permission = next(
        name for name, words in _REQUIRED_PERMISSIONS.items() if any(word in request.lower() for word in words)
    )
    return ConfigError(
        f"S3 forbade a request (403): {request}, of {path}",
        expected=f"{permission} on this path",
        where=path,
        next_step="have the permission granted, or use other credentials",
    )


def _with_handled(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and those that were being handled when it was raised: PySpark raises some errors anew."""
    found: BaseException | None = error
    seen = set[int]()
    while found is not None and id(found) not in seen:  # an error raised from one that it caused makes a circle
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _has_jvm_ended(error: BaseException) -> bool:
    return any(map(_is_of_dead_jvm, _with_handled(error)))


def _is_of_dead_jvm(error: BaseException) -> bool:
    if isinstance(error, ConnectionError):  # of a socket of Py4J, and not of a server or a store
        frames = traceback.walk_tb(error.__traceback__)
        return any(frame.f_globals.get("__name__", "").startswith("py4j.") for frame, _ in frames)
    if type(error).__module__ != "py4j.protocol":
        return False
    text = str(error)
    return any(part in text for part in _DEAD_JVM_MESSAGES) or _LOST_ANSWER.fullmatch(text) is not None


def _is_environment_failure(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _ENVIRONMENT_ERRNOS or isinstance(error, ConnectionError)
    text = _full_text(error)
    return isinstance(error, MemoryError) or any(
        message in text for message in (*_ENVIRONMENT_MESSAGES, *_TRANSIENT_MESSAGES)
    )


def _environment_line(error: BaseException) -> str:
    """Return the message of a failure of the environment, with the Java cause if that alone names what failed."""
    message = first_line(error)
    if isinstance(error, OSError) or any(part in message for part in _ENVIRONMENT_MESSAGES):
        return message
    causes = [line for line in _full_text(error).splitlines() if any(part in line for part in _ENVIRONMENT_MESSAGES)]
    cause = visible(causes[0].strip().removeprefix("Caused by: "), _MAX_LINE_CHARS) if causes else ""
    return f"{message}: {cause}" if cause else message


def is_transient(error: BaseException) -> bool:
    """Return whether the network failed, or a store that had too many requests: another attempt may succeed.

    A JVM that has ended refuses connections, too, and does so for ever.
    """
    if _has_jvm_ended(error):
        return False
    text = _full_text(error) + (_full_text(error.__cause__) if error.__cause__ else "")
    return any(message in text for message in _TRANSIENT_MESSAGES) and not _FORBIDDEN_REQUEST.search(text)


def retry_transient(work: Callable[[], T]) -> T:
    """Return the result of `work`, with up to three attempts if the network fails.

    The clients of a store retry single requests by themselves. Some failures on the way of an answer they do not treat
    as theirs and pass on, half a listing for example.

    Args:
        work: The operation; repeating it must be harmless at any point.

    Raises:
        Exception: The error of the last attempt.
    """
    return with_retries(work, is_transient, _TRANSIENT_POLICY)


def _full_text(error: BaseException) -> str:
    """Return the message of an error with the Java causes, which PySpark keeps in a private attribute."""
    return f"{error} {getattr(error, '_stackTrace', '')}"


def first_line(error: BaseException) -> str:
    """Return the message of any exception in one printable line of at most 500 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # An error of Py4J begins with a line about the call; the cause is in the lines after it.
    prefixes = ("An error occurred while calling", "at ", ": java.lang.Thread")
    causes = [line for line in lines if not line.startswith(prefixes)]
    return visible((causes or lines or [type(error).__name__])[0].removeprefix(": "), _MAX_LINE_CHARS)


def without_values(message: str) -> str:
    """Return a message of Spark or Python with quoted values masked; Spark puts names in backticks.

    >>> without_values("[CAST_INVALID_INPUT] The value 'ana' cannot be cast to INT")
    '[CAST_INVALID_INPUT] The value *** cannot be cast to INT'
    >>> without_values("[USER_RAISED_EXCEPTION] no such person: ana")
    '[USER_RAISED_EXCEPTION] ***'

    Args:
        message: One line.
    """
    if message.startswith(_USERS_MESSAGE):
        return f"{_USERS_MESSAGE} {_MASK}"
    return _QUOTED_VALUE.sub(_MASK, message)


def _innermost_location(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "lakehouse" in f.filename]
    return f"{frames[-1].filename.rpartition('lakehouse/')[2]}:{frames[-1].lineno}" if frames else ""
