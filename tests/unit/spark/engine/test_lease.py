"""One command at a time uses an engine, and what a killed command leaves is killed.

The keeper is the real one. A small program stands for the JVM: it writes a port and a secret as Spark's gateway does,
and ends when its standard input is closed.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.cli import main
from lakehouse.spark.engine import lease, overview
from lakehouse.spark.engine.files import Engine, EngineFolder, EngineUnavailable, engines_folder, with_use
from lakehouse.storage.processes import Process

SOON = 10.0
Starts = Callable[..., lease.EngineStart]
FAKE_JVM = """#!{python}
import os, struct, sys
path = os.environ["_PYSPARK_DRIVER_CONN_INFO_PATH"]
with open(path + ".tmp", "wb") as file:
    file.write(struct.pack(">ii", 4040, 6) + b"secret")
os.rename(path + ".tmp", path)
os.mkdir("spark-warehouse")
sys.stdin.buffer.read()
"""
# A command that leases an engine, prints its JVM, and releases it when its input ends.
COMMAND = """
import json, sys
from pathlib import Path
from lakehouse.spark.engine import lease
from lakehouse.spark.engine.files import EngineFolder
taken = lease.acquire(EngineFolder(Path(sys.argv[1])), lease.EngineStart(**json.loads(sys.argv[2])))
print(taken.engine.jvm.pid, flush=True)
sys.stdin.read()
taken.release(taken.engine)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineFolder]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    leases: list[lease.Lease] = []
    acquire = lease.acquire

    def tracked(*arguments: Any) -> lease.Lease:
        leases.append(acquire(*arguments))
        return leases[-1]

    monkeypatch.setattr(lease, "acquire", tracked)
    folder = EngineFolder(engines_folder())
    yield folder
    for engine in folder.engines():
        folder.kill(engine)
    for taken in leases:
        taken.file.close()


@pytest.fixture
def launch(tmp_path: Path) -> Starts:
    program = tmp_path / "fake-jvm"
    program.write_text(FAKE_JVM.format(python=sys.executable))
    program.chmod(0o755)

    def launch(key: str = "a" * 64, idle_seconds: float = 60.0, program: Path = program) -> lease.EngineStart:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        return lease.EngineStart(key, {"java": "17"}, [str(program), "pyspark-shell"], environment, idle_seconds)

    return launch


def start_command(folder: EngineFolder, launch: lease.EngineStart) -> tuple[subprocess.Popen[str], int]:
    """Start a command in another process; return it with the id of the JVM that it uses."""
    command = [sys.executable, "-c", COMMAND, str(folder.path), json.dumps(vars(launch))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, int(process.stdout.readline())


def end_command(process: subprocess.Popen[str], signum: signal.Signals | None = None) -> None:
    if signum:
        process.send_signal(signum)
    process.communicate(timeout=SOON)


def assert_ended(*processes: Process | None) -> None:
    for process in processes:
        assert process is not None
        assert process.wait(SOON)


def test_a_released_engine_serves_the_next_command(folder: EngineFolder, launch: Starts) -> None:
    first, jvm = start_command(folder, launch())
    end_command(first)

    taken = lease.acquire(folder, launch())

    assert (taken.is_new, taken.engine.jvm) == (False, Process.of(jvm))
    assert (taken.engine.port, taken.engine.secret) == (4040, "secret")


def test_two_commands_at_once_get_two_engines_and_a_third_none(folder: EngineFolder, launch: Starts) -> None:
    first = lease.acquire(folder, launch())
    second = lease.acquire(folder, launch())
    assert first.engine.jvm != second.engine.jvm

    with pytest.raises(EngineUnavailable, match="in use"):
        lease.acquire(folder, launch())
    assert len(folder.engines()) == lease.MAX_PER_KEY


def test_the_engine_of_a_killed_command_is_killed_by_its_keeper(folder: EngineFolder, launch: Starts) -> None:
    command, jvm = start_command(folder, launch())
    (engine,) = folder.engines()

    end_command(command, signal.SIGKILL)

    assert_ended(engine.jvm, engine.keeper)
    assert Process.of(jvm) is None
    assert folder.engines() == []
    assert [path.name for path in folder.path.glob(f"{engine.id}.*")] == [f"{engine.id}.log"]


def test_the_next_command_kills_it_if_the_keeper_cannot(folder: EngineFolder, launch: Starts) -> None:
    command, jvm = start_command(folder, launch())
    (engine,) = folder.engines()
    engine.keeper.kill(signal.SIGSTOP)
    end_command(command, signal.SIGKILL)
    assert engine.jvm
    assert engine.jvm.is_alive()

    taken = lease.acquire(folder, launch())

    assert_ended(engine.jvm, engine.keeper)
    assert taken.engine.jvm != Process.of(jvm)


def test_a_command_killed_while_its_engine_starts_leaves_nothing(
    folder: EngineFolder, launch: Starts, tmp_path: Path
) -> None:
    slow = tmp_path / "slow-jvm"
    slow.write_text(f"#!{sys.executable}\nimport sys\nsys.stdin.buffer.read()\n")
    slow.chmod(0o755)
    arguments = [sys.executable, "-c", COMMAND, str(folder.path), json.dumps(vars(launch(program=slow)))]
    command = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + SOON
    while not folder.engines() and time.monotonic() < deadline:
        time.sleep(0.05)
    (engine,) = folder.engines()

    end_command(command, signal.SIGKILL)

    assert_ended(engine.keeper)


def test_the_jvm_ends_with_its_keeper(folder: EngineFolder, launch: Starts) -> None:
    taken = lease.acquire(folder, launch())

    taken.engine.keeper.kill()

    assert_ended(taken.engine.jvm)


def test_an_engine_whose_jvm_was_killed_is_replaced(folder: EngineFolder, launch: Starts) -> None:
    first = lease.acquire(folder, launch())
    first.release(first.engine)
    assert first.engine.jvm
    first.engine.jvm.kill()
    assert_ended(first.engine.jvm)

    second = lease.acquire(folder, launch())

    assert second.is_new
    assert_ended(first.engine.keeper)


def test_an_idle_engine_ends(folder: EngineFolder, launch: Starts) -> None:
    taken = lease.acquire(folder, launch(idle_seconds=0.5))
    time.sleep(1.5)
    assert folder.engines()  # it is in use

    taken.release(taken.engine)

    assert_ended(taken.engine.jvm, taken.engine.keeper)
    assert folder.engines() == []


def test_an_engine_whose_files_were_deleted_ends_after_its_command(folder: EngineFolder, launch: Starts) -> None:
    """For example by `rm -rf ~/.cache`."""
    taken = lease.acquire(folder, launch())
    for path in folder.path.iterdir():
        path.unlink()
    time.sleep(1.0)
    assert taken.engine.jvm
    assert taken.engine.jvm.is_alive()

    taken.file.release()

    assert_ended(taken.engine.jvm, taken.engine.keeper)


def test_what_a_jvm_writes_into_its_working_directory_is_removed_with_it(
    folder: EngineFolder, launch: Starts, tmp_path: Path
) -> None:
    """Spark creates a folder for its warehouse there."""
    taken = lease.acquire(folder, launch())
    scratch = Path(taken.engine.scratch)
    deadline = time.monotonic() + SOON
    while not (scratch / "spark-warehouse").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (scratch / "spark-warehouse").exists()

    taken.end()

    assert not scratch.exists()
    assert sorted(path.name for path in folder.path.iterdir()) == [f"{taken.engine.id}.log", "lock"]


def test_a_folder_of_somebody_else_among_the_files_does_not_matter(folder: EngineFolder, launch: Starts) -> None:
    folder.create()
    (folder.path / "other").mkdir()

    assert lease.acquire(folder, launch()).is_new


def test_a_new_kind_of_engine_ends_the_one_that_was_idle_for_longest(folder: EngineFolder, launch: Starts) -> None:
    taken = [lease.acquire(folder, launch(key=letter * 64)) for letter in "abc"]
    for number, each in zip((2, 1, 3), taken, strict=True):
        each.release(with_use(each.engine, f"2026-01-0{number}T00:00:00+00:00", 1, 2))

    lease.acquire(folder, launch(key="d" * 64))

    assert sorted(engine.key[0] for engine in folder.engines()) == ["a", "c", "d"]
    assert_ended(taken[1].engine.jvm)


def test_a_jvm_that_does_not_start_is_reported_with_its_log(
    folder: EngineFolder, launch: Starts, tmp_path: Path
) -> None:
    broken = tmp_path / "broken-jvm"
    broken.write_text("#!/bin/sh\necho no Java here >&2\nexit 1\n")
    broken.chmod(0o755)

    with pytest.raises(EngineUnavailable, match="did not start") as unavailable:
        lease.acquire(folder, launch(program=broken))

    assert "no Java here" in Path(str(unavailable.value).rpartition(" ")[2]).read_text()
    assert folder.engines() == []


def test_only_the_user_can_read_the_files(folder: EngineFolder, launch: Starts) -> None:
    taken = lease.acquire(folder, launch())
    taken.release(taken.engine)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', '{"id": "x"}', '{"keeper": {"pid": 1}}'])
def test_a_file_that_describes_no_engine_is_removed(folder: EngineFolder, launch: Starts, content: str) -> None:
    folder.create()
    folder.file("aaaaaaaaaaaa-000000", "json").write_text(content)

    taken = lease.acquire(folder, launch())

    assert [path.stem for path in folder.path.glob("*.json")] == [taken.engine.id]


@pytest.mark.parametrize("content", ["{", '"text"', '{"pid": 1, "started": "1"}'])
def test_an_engine_with_a_doubtful_lease_is_not_used(folder: EngineFolder, launch: Starts, content: str) -> None:
    """The last case is a reused process id."""
    first = lease.acquire(folder, launch())
    first.file._write(content)
    first.file.close()

    second = lease.acquire(folder, launch())

    assert second.engine.id != first.engine.id
    assert_ended(first.engine.jvm)


def test_no_engine_without_a_cache_folder(folder: EngineFolder, launch: Starts) -> None:
    folder.path.parent.parent.mkdir(parents=True)
    folder.path.parent.write_text("a file, where a folder should be")

    with pytest.raises(EngineUnavailable):
        lease.acquire(folder, launch())


# --- lakehouse engine -------------------------------------------------------------------------------------------------


def engine_verb(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, list[dict[str, object]]]]:
    capsys.readouterr()
    code = main(["engine", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_status_and_stop_without_an_engine(folder: EngineFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine_verb(capsys, "status") == (0, {"engines": []})
    assert engine_verb(capsys, "stop") == (0, {"stopped": [], "in_use": []})
    assert not folder.path.exists()


def test_status_shows_who_uses_an_engine_and_no_secret(
    folder: EngineFolder, launch: Starts, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = lease.acquire(folder, launch())
    _, document = engine_verb(capsys, "status")
    (shown,) = document["engines"]
    assert (shown["state"], shown["command"], shown["commands"]) == ("in use", os.getpid(), 0)
    assert taken.engine.jvm
    assert shown["jvm"] == taken.engine.jvm.pid
    assert taken.engine.secret not in json.dumps(document)

    taken.release(with_use(taken.engine, "2026-01-01T00:00:00+00:00", 5 << 20, 10 << 20))
    _, document = engine_verb(capsys, "status")
    (shown,) = document["engines"]
    assert (shown["state"], shown["command"], shown["commands"]) == ("idle", None, 1)
    assert (shown["idle_since"], shown["heap_bytes"]) == ("2026-01-01T00:00:00+00:00", 5 << 20)
    assert main(["engine", "status"]) == 0
    assert "idle" in capsys.readouterr().out


def test_stop_leaves_an_engine_in_use_unless_forced(
    folder: EngineFolder, launch: Starts, capsys: pytest.CaptureFixture[str]
) -> None:
    used, idle = lease.acquire(folder, launch()), lease.acquire(folder, launch())
    idle.release(idle.engine)

    code, document = engine_verb(capsys, "stop")
    assert code == 6
    assert [engine["id"] for engine in document["stopped"]] == [idle.engine.id]
    assert [engine["id"] for engine in document["in_use"]] == [used.engine.id]
    assert_ended(idle.engine.jvm, idle.engine.keeper)

    code, document = engine_verb(capsys, "stop", "--force")
    assert (code, [engine["id"] for engine in document["stopped"]]) == (0, [used.engine.id])
    assert_ended(used.engine.jvm, used.engine.keeper)
    assert overview.status() == {"engines": []}


def test_the_representation_of_an_engine_has_no_secret() -> None:
    keeper = Process(1, "1")
    assert "s3same" not in repr(Engine("a-1", "a", {}, keeper, "2026-01-01", secret="s3same"))
