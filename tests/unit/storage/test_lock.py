"""One run per lake: the second is refused and told who holds it, a dead holder holds nothing, its JVM is waited for.

The JVM of a killed run is played by a `sleep`: all that counts of it is that a process of that id and start lives.
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

from lakehouse.errors import ExitCode, LakeBusy
from lakehouse.storage import lock
from lakehouse.storage.paths import Lake

SOON = 5.0  # seconds; far less than a JVM is waited for

HOLDER = """
import sys
from lakehouse.storage.paths import Lake
from lakehouse.storage.lock import lock_lake
with lock_lake(Lake(sys.argv[1]), "run-7", "ingest") as held:
    if len(sys.argv) > 2:
        held.record_jvm(int(sys.argv[2]))
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(lake: Lake, *jvm: int) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lake until its input ends or it is killed."""
    command = [sys.executable, "-c", HOLDER, lake.root, *map(str, jvm)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
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


def test_a_second_run_is_refused_at_once_and_told_who_holds_the_lake(lake: Lake) -> None:
    with holder(lake) as process:
        with at_most(SOON), pytest.raises(LakeBusy) as refused, lock.lock_lake(lake, "run-8", "bronze"):
            pass
        assert refused.value.exit_code == ExitCode.BUSY
        for told in (str(process.pid), "ingest", "run-7", lake.root):
            assert told in refused.value.found

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


def test_two_lakes_are_held_side_by_side(lake: Lake, tmp_path: Path) -> None:
    with holder(lake):
        assert_free(Lake(str(tmp_path / "other")))


def test_a_holder_that_has_not_written_its_name_yet_holds_all_the_same(lake: Lake) -> None:
    path = lake.state_path("lock")
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LakeBusy), lock.lock_lake(lake, "run-8", "bronze"):
            pass


def test_the_lock_of_a_killed_process_is_free(lake: Lake) -> None:
    with holder(lake) as process:
        process.kill()
        process.wait()

        assert_free(lake)


def test_the_jvm_of_a_killed_holder_is_waited_for(lake: Lake, jvm: subprocess.Popen[bytes]) -> None:
    with holder(lake, jvm.pid) as process:
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
    with holder(lake, jvm.pid) as process:
        process.kill()
        process.wait()

    for _ in range(2):  # having waited in vain is no way past it
        with pytest.raises(LakeBusy) as refused, lock.lock_lake(lake, "run-8", "bronze"):
            pass
        assert str(jvm.pid) in refused.value.found


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_an_orderly_end_leaves_no_jvm_to_wait_for(lake: Lake, jvm: subprocess.Popen[bytes], fails: bool) -> None:
    try:
        with lock.lock_lake(lake, "run-7", "ingest") as held:
            held.record_jvm(jvm.pid)
            if fails:
                raise InterruptedError
    except InterruptedError:
        assert fails

    assert_free(lake)
    assert jvm.poll() is None


@pytest.mark.parametrize("left", ["", "{", '"text"', '{"jvm": null}', '{"jvm": {"pid": %d, "started": "1"}}'])
def test_what_a_dead_holder_left_in_the_file_stops_nobody(lake: Lake, jvm: subprocess.Popen[bytes], left: str) -> None:
    """The last one: a process id that was given out again, to a process that started at another time."""
    path = lake.state_path("lock")
    path.parent.mkdir(parents=True)
    path.write_text(left % jvm.pid if "%" in left else left)

    assert_free(lake)
    assert jvm.poll() is None


def test_the_file_says_what_the_holder_does_and_which_jvm_works_for_it(
    lake: Lake, jvm: subprocess.Popen[bytes]
) -> None:
    with lock.lock_lake(lake, "run-7", "ingest") as held:
        held.record_jvm(jvm.pid)
        said = json.loads(lake.state_path("lock").read_text())

    assert (said["pid"], said["run_id"], said["doing"]) == (os.getpid(), "run-7", "ingest")
    assert said["jvm"]["pid"] == jvm.pid
    assert lake.state_path("lock").read_text() == ""
