"""Objects in the folder of the leases that no run has written: they are ignored, or reported as what they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from lakehouse.errors import ExitCode, LakeBusy
from lakehouse.storage import s3_lease
from lakehouse.storage.s3 import S3Object, WriteConflict

DEFAULT = s3_lease._DEFAULT_SECONDS


@dataclass(frozen=True)
class Store:
    """The folder of the leases in a store, or an object of it."""

    objects: dict[str, tuple[bytes, float]]
    name: str = ""

    @property
    def parent(self) -> Store:
        return Store(self.objects)

    def __truediv__(self, name: str) -> Store:
        return Store(self.objects, name)

    def __str__(self) -> str:
        return f"s3a://bucket/lock/{self.name}"

    def iterdir(self) -> list[Store]:
        return [self / name for name in self.objects]

    def put(self, content: bytes, **condition: str) -> None:
        if condition and self.name in self.objects:
            raise WriteConflict(self.name)
        self.objects[self.name] = (content, 0.0)

    def read_object(self) -> S3Object:
        if self.name not in self.objects:
            raise FileNotFoundError(self.name)
        return S3Object(self.objects[self.name][0], "", self.objects[self.name][1])

    def unlink(self) -> None:
        self.objects.pop(self.name, None)


def lock(objects: dict[str, tuple[bytes, float]]) -> list[str]:
    """Lock the lake once, and return the names of the objects while it is locked."""
    store: Any = Store(objects)
    with s3_lease.lock_lake(store, "s3a://bucket", "run-7", "ingest"):
        return sorted(objects)


@pytest.mark.parametrize("name", ["README.md", "backup", "1", "00000001.tmp", "-0000001", "\u0660" * 8, ".part"])
def test_a_stray_object_is_ignored_and_stays(name: str) -> None:
    objects = {name: (b"whatever", 5.0)}

    assert lock(objects) == sorted([name, "00000001"])
    assert name in objects


NOT_WRITTEN_BY_A_RUN = [b"", b"{}", b"null", b"[" * 100_000, b"\xff"]
NOT_WRITTEN_BY_A_RUN += [b'{"seconds": "x"}', b'{"seconds": 1e99}', b'{"seconds": NaN}', b'{"seconds": -5}']


@pytest.mark.parametrize("content", NOT_WRITTEN_BY_A_RUN, ids=lambda content: repr(content[:20]))
def test_an_object_that_is_called_like_a_lease_counts_for_the_time_of_one(content: bytes) -> None:
    fresh, old = {"00000007": (content, 0.0)}, {"00000007": (content, DEFAULT + 10)}

    with pytest.raises(LakeBusy) as error:
        lock(fresh)
    assert error.value.exit_code == ExitCode.BUSY
    assert f"within {DEFAULT + 1:.0f} seconds" in error.value.next_step

    assert lock(old) == ["00000008"]


def test_numbers_of_leases_are_compared_as_numbers() -> None:
    assert lock({"99999999": (b"", 100.0)}) == ["100000000"]
    assert lock({"99999999": (b"", 100.0), "100000000": (b"", 100.0)}) == ["100000001"]


def test_the_lease_of_a_run_is_respected() -> None:
    holder = {"seconds": 60, "pid": 7, "host": "h", "doing": "run", "run_id": "r", "started": "now"}

    with pytest.raises(LakeBusy, match="process 7 on h"):
        lock({"00000001": (json.dumps(holder).encode(), 1.0)})
    assert lock({"00000001": (json.dumps(holder | {"seconds": 0}).encode(), 1.0)}) == ["00000002"]
