"""Counts the small data files of a Delta table, from its log."""

from __future__ import annotations

from lakehouse.storage.delta_files import list_files
from lakehouse.storage.delta_log import newest_version
from lakehouse.storage.file_io import StorePath

MANY = 100
SMALL_BYTES = 128 << 10
"""A file of this size or more stays as it is. One of a table that is sorted is larger: OPTIMIZE would mix its rows."""
_MAX_FILES = 1 << 20  # of a lake that was made when nothing compacted


def count_small_files(table: StorePath) -> int:
    """Return the number of small data files; 0 if only Spark can tell, or if there is no table.

    Args:
        table: The folder of the table.
    """
    version = newest_version(table)
    files = list_files(table, version, with_vectors=True, max_files=_MAX_FILES) if version >= 0 else None
    return sum(file.size < SMALL_BYTES for file in files.files) if files else 0
