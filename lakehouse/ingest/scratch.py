"""Removes the tables below `_state` that a replay or a rebuild of change sets left when it was killed.

They have the table's rows as they were before a snapshot. A replay removes its own at its end. If it is killed after
it was published, nobody calls it again.
"""

from __future__ import annotations

from collections.abc import Iterable

from lakehouse.storage import file_io
from lakehouse.storage.paths import Lake

_FOLDERS = ("rebuild", "replay")


def remove_scratch(lake: Lake, names: Iterable[str]) -> None:
    """Remove what killed commands left of some tables.

    Args:
        lake: The lake, which the caller has locked.
        names: The tables.
    """
    wanted = set(names)
    for folder in _FOLDERS:
        for name in wanted.intersection(file_io.list_names(lake.state_path(folder))):
            file_io.remove(lake.state_path(folder, name))
