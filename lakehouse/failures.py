"""From whatever was raised to the one short block that people read: never a Java stack trace."""

from __future__ import annotations

import errno
import traceback

from lakehouse.errors import InfrastructureError, LakehouseError

_ENVIRONMENT = {
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
_SIGNS = (
    "No space left on device",
    "OutOfMemoryError",
    "Connection refused",
    "Connection reset",
    "Disk quota exceeded",
)


def understood(error: BaseException, verbose: bool = False) -> LakehouseError:
    """`error` as one of ours: itself, an `InfrastructureError`, or a bug."""
    if isinstance(error, LakehouseError):
        return error
    told = said(error)
    if _is_environment(error):
        return InfrastructureError(
            told, expected="room, memory, permission and connections enough", next_step="run the same command again"
        )
    where = traceback.format_exc() if verbose else _innermost(error)
    return LakehouseError(
        f"{type(error).__name__}: {told}",
        where=where,
        next_step="run again with --verbose for the whole trace; this is a bug",
    )


def _is_environment(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _ENVIRONMENT or isinstance(error, ConnectionError)
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)


def said(error: BaseException) -> str:
    """What an error says, in one line, whichever way it came."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Py4J's own errors open with a line about the call; what went wrong comes after it.
    told = [
        line for line in lines if not line.startswith(("An error occurred while calling", "at ", ": java.lang.Thread"))
    ]
    return (told or lines or [type(error).__name__])[0].removeprefix(": ")[:500]


def _innermost(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "lakehouse" in f.filename]
    return f"{frames[-1].filename.rpartition('lakehouse/')[2]}:{frames[-1].lineno}" if frames else ""
