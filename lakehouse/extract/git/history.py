"""Gives commits their times as snapshots, and finds the files of a table in the names of a tree. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from lakehouse.extract.git.repository import Commit
from lakehouse.storage.landing import MANIFEST

_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST_SECOND = 253_402_300_799  # of the year 9999


def commit_times(
    commits: Sequence[Commit], taken: Mapping[str, datetime], newest: datetime | None = None
) -> list[datetime]:
    """Return the time of each commit as a snapshot: the committer's, but at least one second after its parent's.

    A commit that was taken keeps its time, so that every table has it at the same one, now and after a run that was
    killed. The commits after those that were taken are later than everything that landed, whatever happened to the
    history.

    >>> commits = [Commit("a", 100), Commit("b", 90), Commit("c", 200)]
    >>> [f"{time:%M:%S}" for time in commit_times(commits, {})]
    ['01:40', '01:41', '03:20']
    >>> at_five = _EPOCH + timedelta(minutes=5)
    >>> [f"{time:%M:%S}" for time in commit_times(commits, {"b": at_five}, at_five)]
    ['01:40', '05:00', '05:01']

    Args:
        commits: The commits, each the first parent of the next.
        taken: The times of commits that were taken, by id.
        newest: The time of the newest snapshot that landed.
    """
    first_new = max((n + 1 for n, commit in enumerate(commits) if commit.id in taken), default=0)
    # A time after the year 9999 is no time; a second remains for each commit that follows.
    last_usable = _LAST_SECOND - len(commits)
    times: list[datetime] = []
    for position, commit in enumerate(commits):
        committed = commit.committed if commit.committed <= last_usable else 0
        time = taken.get(commit.id) or _EPOCH + timedelta(seconds=committed)
        if times:
            time = max(time, times[-1] + _SECOND)
        if newest and position == first_new:
            time = max(time, newest + _SECOND)
        times.append(time)
    return times


def matches(name: str, pattern: str) -> bool:
    """Return whether a file in a tree is one of a table's, by the rules of globs in the folder of a snapshot.

    >>> matches("2024/prices.csv", "*/prices.csv"), matches("2024/prices.csv", "*.csv")
    (True, False)
    >>> matches("a/b/prices.csv", "**/*.csv"), matches("prices.csv", "**/*.csv")
    (True, True)

    Args:
        name: The file's path in the tree.
        pattern: The table's `file`.
    """
    return _match_parts(name.split("/"), PurePosixPath(pattern).parts)


def _match_parts(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return _match_parts(parts, patterns[1:]) or (bool(parts) and _match_parts(parts[1:], patterns))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _match_parts(parts[1:], patterns[1:])


def literal_paths(patterns: Iterable[str]) -> list[str]:
    """Return files and folders that contain everything that some patterns match; none if that is the whole tree.

    >>> literal_paths(["data/prices.csv", "raw/2024-*/x.csv"])
    ['data/prices.csv', 'raw']
    >>> literal_paths(["data/prices.csv", "*.csv"])
    []

    Args:
        patterns: The tables' `file`.
    """
    paths = []
    for pattern in patterns:
        parts = PurePosixPath(pattern).parts
        wild = next((n for n, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
        if not wild:
            return []
        paths.append("/".join(parts[:wild]))
    return sorted(set(paths))


def is_safe(name: str) -> bool:
    """Return whether a file of a tree can be written below a folder; a tree made by hand can have any names.

    >>> is_safe("data/prices.csv"), is_safe("../prices.csv"), is_safe("data//prices.csv")
    (True, False, False)

    Args:
        name: The file's path in the tree.
    """
    is_of_lake = name in (MANIFEST, f".{MANIFEST}.partial")
    return not is_of_lake and not {"", ".", ".."}.intersection(name.split("/"))
