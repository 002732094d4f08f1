"""One run per lake: a second one is refused, the lock of a dead run is free, and its JVM is waited for.

A `sleep` stands for the JVM of a killed run: only the id and the start time of a living process count.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lakehouse.errors import ConfigError, ExitCode, LakeBusy
from lakehouse.storage import lock
from lakehouse.storage.paths import Lake

SOON = 5.0  # seconds; much less than the wait for a JVM

HOLDER = """
import sys
from lakehouse.storage.paths import Lake
from lakehouse.storage.lock import lock_lake
with lock_lake(Lake(sys.argv[1]), "run-7", "ingest") as lake_lock:
    if len(sys.argv) > 2:
        lake_lock.record_jvm(int(sys.argv[2]))
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def lock_in_another_process(lake: Lake, *jvm: int) -> Iterator[subprocess.Popen[str]]:
    """Lock the lake in another process, until its input ends or it is killed."""
    command = [sys.executable, "-c", HOLDER, lake.root, *map(str, jvm)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def jvm() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "120"]) as process:
        yield process
        process.kill()


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def assert_free(lake: Lake) -> None:
    with at_most(SOON), lock.lock_lake(lake, "run-8", "bronze"):
        pass


def test_a_second_run_is_refused_at_once_and_names_the_first(lake: Lake) -> None:
    with lock_in_another_process(lake) as process:
        with at_most(SOON), pytest.raises(LakeBusy) as refused, lock.lock_lake(lake, "run-8", "bronze"):
            pass
        assert refused.value.exit_code == ExitCode.BUSY
        for part in (str(process.pid), "ingest", "run-7", lake.root):
            assert part in refused.value.found

        process.communicate("")
        assert process.returncode == 0
    assert_free(lake)


def test_a_run_is_refused_in_the_same_process_too(lake: Lake) -> None:
    with (
        lock.lock_lake(lake, "run-7", "ingest"),
        pytest.raises(LakeBusy) as refused,
        lock.lock_lake(lake, "run-8", "bronze"),
    ):
        pass

    assert str(os.getpid()) in refused.value.found
    assert_free(lake)


def test_two_lakes_are_locked_independently(lake: Lake, tmp_path: Path) -> None:
    with lock_in_another_process(lake):
        assert_free(Lake(str(tmp_path / "other")))


def test_a_lock_without_a_description_is_a_lock_too(lake: Lake) -> None:
    path = lake.state_path("lock")
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LakeBusy), lock.lock_lake(lake, "run-8", "bronze"):
            pass


def test_the_lock_of_a_killed_process_is_free(lake: Lake) -> None:
    with lock_in_another_process(lake) as process:
        process.kill()
        process.wait()

        assert_free(lake)


def test_the_next_run_waits_for_the_jvm_of_a_killed_one(lake: Lake, jvm: subprocess.Popen[bytes]) -> None:
    with lock_in_another_process(lake, jvm.pid) as process:
        process.kill()
        process.wait()
    end = threading.Timer(0.7, jvm.kill)
    end.start()

    with at_most(SOON), lock.lock_lake(lake, "run-8", "bronze"):
        assert jvm.wait(timeout=SOON) is not None
        assert not end.is_alive()
    end.join()


def test_a_jvm_that_does_not_end_is_named(
    lake: Lake, jvm: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_JVM_GRACE_SECONDS", 0.3)
    with lock_in_another_process(lake, jvm.pid) as process:
        process.kill()
        process.wait()

    for _ in range(2):  # an unsuccessful wait does not open the way
        with pytest.raises(LakeBusy) as refused, lock.lock_lake(lake, "run-8", "bronze"):
            pass
        assert str(jvm.pid) in refused.value.found


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_after_a_regular_end_no_jvm_is_waited_for(lake: Lake, jvm: subprocess.Popen[bytes], fails: bool) -> None:
    try:
        with lock.lock_lake(lake, "run-7", "ingest") as lake_lock:
            lake_lock.record_jvm(jvm.pid)
            if fails:
                raise InterruptedError
    except InterruptedError:
        assert fails

    assert_free(lake)
    assert jvm.poll() is None


@pytest.mark.parametrize("content", ["", "{", '"text"', '{"jvm": null}', '{"jvm": {"pid": %d, "started": "1"}}'])
def test_old_content_of_the_lock_file_blocks_no_run(lake: Lake, jvm: subprocess.Popen[bytes], content: str) -> None:
    """The last case is a reused process id, of a process that started at another time."""
    path = lake.state_path("lock")
    path.parent.mkdir(parents=True)
    path.write_text(content % jvm.pid if "%" in content else content)

    assert_free(lake)
    assert jvm.poll() is None


def test_the_lock_file_describes_the_run_and_its_jvm(lake: Lake, jvm: subprocess.Popen[bytes]) -> None:
    with lock.lock_lake(lake, "run-7", "ingest") as lake_lock:
        lake_lock.record_jvm(jvm.pid)
        content = json.loads(lake.state_path("lock").read_text())

    assert (content["pid"], content["run_id"], content["doing"]) == (os.getpid(), "run-7", "ingest")
    assert content["jvm"]["pid"] == jvm.pid
    assert lake.state_path("lock").read_text() == ""


def test_a_lock_that_is_a_link_is_not_followed(lake: Lake, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = lake.state_path("lock")
    assert isinstance(path, Path)
    path.parent.mkdir(parents=True)
    path.symlink_to(victim)

    with pytest.raises(ConfigError, match="is a link"), lock.lock_lake(lake, "run-8", "bronze"):
        pass

    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    "content", ["{}", '{"pid": 1}', "[" * 100_000, "null", "7", '{"jvm": {"pid": "x", "started": []}}']
)
def test_a_lock_with_another_content_is_free(lake: Lake, content: str) -> None:
    path = lake.state_path("lock")
    assert isinstance(path, Path)
    path.parent.mkdir(parents=True)
    path.write_text(content)

    assert_free(lake)
