"""Tables that a killed replay or rebuild left below `_state` are removed: its own by the next run, all by `forget`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lakehouse.forget.forget import _remove_temp_copies
from lakehouse.ingest import remove_scratch
from lakehouse.storage.paths import Lake


def _remove_before_ingest(lake: Lake) -> None:
    remove_scratch(lake, ["items"])


@pytest.mark.parametrize(
    ("remove", "expected"),
    [(_remove_before_ingest, ["replay/others/bronze/part.parquet"]), (_remove_temp_copies, [])],
)
def test_what_killed_commands_left_is_removed(lake: Lake, remove: Callable[[Lake], None], expected: list[str]) -> None:
    for folder in ("rebuild/items", "replay/items/bronze", "replay/others/bronze"):
        file = lake.local_path(*folder.split("/"), "part.parquet")
        file.parent.mkdir(parents=True)
        file.touch()
    remove(lake)
    state = lake.local_path()
    assert sorted(path.relative_to(state).as_posix() for path in state.rglob("*.parquet")) == expected
