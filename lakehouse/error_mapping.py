"""From whatever was raised to the one short block that people read: never a Java stack trace."""

from __future__ import annotations

import errno
import random
import re
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from lakehouse.errors import ConfigError, InfrastructureError, LakehouseError

T = TypeVar("T")

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
# What Spark says when it is its surroundings that failed, not the code.
_ENVIRONMENT_MESSAGES = (
    "No space left on device",
    "OutOfMemoryError",
    "Disk quota exceeded",
    "DELTA_CONCURRENT",  # another driver wrote the same table meanwhile
    "s3.model.S3Exception",
    "org.apache.hadoop.fs.s3a.AWS",
)
# The same of the network between: it may be well in a moment.
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
    # PostgreSQL's words
    "server closed the connection unexpectedly",
    "the database system is",  # starting up, shutting down, in recovery mode
    "terminating connection",
)
# What S3A says of a request that was forbidden: the object, and what it was about to do with it.
_FORBIDDEN_REQUEST = re.compile(r"AccessDeniedException: (\S+): ([^\n]*(?:S3Exception|Status Code: 403))")
_REQUIRED_PERMISSIONS = {
    "s3:DeleteObject": ("delete",),
    "s3:PutObject": ("put", "upload", "writ", "copy"),
    "s3:ListBucket": ("list",),
    "s3:GetObject, and s3:ListBucket": ("",),
}
_ATTEMPTS = 3


def to_lakehouse_error(error: BaseException, verbose: bool = False) -> LakehouseError:
    """`error` as one of ours: itself, an `InfrastructureError`, or a bug."""
    if isinstance(error, LakehouseError):
        return error
    told = first_line(error)
    if forbidden := _FORBIDDEN_REQUEST.search(_full_text(error)):
        place, doing = forbidden.groups()
        request = doing.partition(" on ")[0]
        needed = next(
            name for name, words in _REQUIRED_PERMISSIONS.items() if any(word in request.lower() for word in words)
        )
        return ConfigError(
            f"S3 forbade a request (403): {request}, of {place}",
            expected=f"{needed} there",
            where=place,
            next_step="have the permission granted, or use other credentials",
        )
    if "S3AFileSystem not found" in _full_text(error):
        return ConfigError(
            "this Spark session has no packages for S3",
            expected="those of conf/spark-s3.conf, for a lake on s3a://",
            next_step="spark-submit --load-spark-defaults --properties-file conf/spark-s3.conf jobs/run.py PIPELINE",
        )
    if _is_environment_failure(error):
        return InfrastructureError(
            told, expected="room, memory, permission and connections enough", next_step="run the same command again"
        )
    where = traceback.format_exc() if verbose else _innermost_location(error)
    return LakehouseError(
        f"{type(error).__name__}: {told}",
        where=where,
        next_step="run again with --verbose for the whole trace; this is a bug",
    )


def _is_environment_failure(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _ENVIRONMENT_ERRNOS or isinstance(error, ConnectionError)
    whole = _full_text(error)
    return isinstance(error, MemoryError) or any(
        sign in whole for sign in (*_ENVIRONMENT_MESSAGES, *_TRANSIENT_MESSAGES)
    )


def is_transient(error: BaseException) -> bool:
    """Whether it was the network that failed, or a store that was asked for too much at once."""
    whole = _full_text(error) + (_full_text(error.__cause__) if error.__cause__ else "")
    return any(sign in whole for sign in _TRANSIENT_MESSAGES) and not _FORBIDDEN_REQUEST.search(whole)


def with_retries(work: Callable[[], T]) -> T:
    """Do `work`, which may be done again at any point of it; up to three times, where the network failed.

    The clients of a store try a request again by themselves. Some of what befalls an answer on its way they do not see
    as theirs to mend, and hand it on: half a list, for example.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return work()
        except Exception as error:
            if not is_transient(error):
                raise
            time.sleep(random.uniform(0.5, 1) * 2**attempt)
    return work()


def _full_text(error: BaseException) -> str:
    """What an error says, with the causes that PySpark keeps to itself."""
    return f"{error} {getattr(error, '_stackTrace', '')}"


def first_line(error: BaseException) -> str:
    """What an error says, in one line, whichever way it came."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Py4J's own errors open with a line about the call; what went wrong comes after it.
    told = [
        line for line in lines if not line.startswith(("An error occurred while calling", "at ", ": java.lang.Thread"))
    ]
    return (told or lines or [type(error).__name__])[0].removeprefix(": ")[:500]


def _innermost_location(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "lakehouse" in f.filename]
    return f"{frames[-1].filename.rpartition('lakehouse/')[2]}:{frames[-1].lineno}" if frames else ""
