"""Commands share a warm JVM one after the other, and none notices another; a killed command's JVM never commits.

Each command is a process, as at a terminal. The engines are in a cache folder of this module.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Project
from shop import FIRST, GOLD_AFTER_THIRD, MODELS, SECOND, SNAPSHOTS, THIRD, lake_content

from lakehouse.spark.class_archive import SWITCH
from lakehouse.spark.engine.files import Engine, EngineFolder
from lakehouse.storage.processes import Process

PROGRAM = Path(__file__).with_name("engine_program.py")
LATE_TABLE, WRITE_SECONDS = "gold/late", 3.0  # as in engine_program.py
TIMEOUT = 200


class Terminal:
    """Runs commands as processes that may use an engine."""

    def __init__(self, cache: Path) -> None:
        self.folder = EngineFolder(cache / "lakehouse/engines")
        # Without an archive of classes, which would be written for this cache alone.
        self.environment = os.environ | {"XDG_CACHE_HOME": str(cache), "LAKEHOUSE_ENGINE": "on", SWITCH: "off"}

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment | variables, text=True, stdout=pipe, stderr=pipe)

    def lakehouse(self, *words: str) -> dict[str, Any]:
        """Run a command that has to succeed, and return its document."""
        return self.document(self.start("-m", "lakehouse", *words, "--json"))

    def part(self, part: str, project: Project, **variables: str) -> dict[str, Any]:
        """Run a part of engine_program.py that has to succeed, and return its document."""
        return self.document(self.start(str(PROGRAM), part, str(project.pipeline), **variables))

    def document(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        out, err = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, err
        assert "no engine" not in err and "not used again" not in err, err
        document: dict[str, Any] = json.loads(out)
        return document

    def idle_engines(self) -> list[Engine]:
        return [engine for engine in self.folder.engines() if not self.folder.holder(engine.id)]


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path_factory.mktemp("cache"))
    yield terminal
    engines = terminal.folder.engines()
    terminal.lakehouse("engine", "stop", "--force")
    assert [engine.id for engine in engines if engine.jvm and engine.jvm.is_alive()] == []


def new_shop(folder: Path) -> Project:
    project = Project(folder, models=MODELS)
    project.snapshot(FIRST, items=SNAPSHOTS[FIRST])
    return project


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    return new_shop(tmp_path / "shop")


def assert_ended(*processes: Process | None, seconds: float = 15.0) -> None:
    for process in processes:
        assert process is not None
        assert process.wait(seconds)


def test_a_second_command_uses_the_jvm_of_the_first_and_finds_nothing_of_it(terminal: Terminal, shop: Project) -> None:
    first = terminal.part("traces", shop, PGPASSWORD="s3same")
    second = terminal.part("traces", shop)

    assert first["jvm"] == second["jvm"]
    for each in (first, second):
        del each["jvm"], each["seconds"]
    assert first == second
    assert second["isolated"]["views"] == second["base"]["views"] == []
    assert second["persisted"] == 0
    assert second["environment"] is None
    (engine,) = terminal.folder.engines()
    assert engine.commands == 2
    assert 0 < engine.heap_bytes < engine.heap_max_bytes


def test_one_command_after_the_other_gives_the_result_of_a_jvm_for_each(terminal: Terminal, tmp_path: Path) -> None:
    """A run is merged by foreachBatch, for which the JVM calls back to the Python process of the moment."""
    warm, cold = new_shop(tmp_path / "warm"), new_shop(tmp_path / "cold")
    for stamp in (SECOND, THIRD):
        jvms = {engine.jvm for engine in terminal.folder.engines()}
        terminal.lakehouse("run", str(warm.pipeline))
        assert jvms <= {engine.jvm for engine in terminal.folder.engines()}
        for project in (warm, cold):
            project.snapshot(stamp, items=SNAPSHOTS[stamp])
    terminal.lakehouse("run", str(warm.pipeline))
    terminal.document(terminal.start("-m", "lakehouse", "run", str(cold.pipeline), "--json", LAKEHOUSE_ENGINE="off"))

    assert warm.rows("gold/notes") == GOLD_AFTER_THIRD
    assert lake_content(warm) == lake_content(cold)
    assert terminal.lakehouse("verify", str(warm.pipeline))["failed"] == 0


def test_a_lake_that_was_deleted_and_made_again_at_the_same_place(terminal: Terminal, shop: Project) -> None:
    """The JVM keeps the state of each Delta table that it has read."""
    shop.snapshot(SECOND, items=SNAPSHOTS[SECOND])
    terminal.lakehouse("run", str(shop.pipeline))
    first = lake_content(shop)
    shutil.rmtree(shop.lake)

    terminal.lakehouse("run", str(shop.pipeline))

    assert lake_content(shop) == first
    assert terminal.lakehouse("verify", str(shop.pipeline))["failed"] == 0


def test_two_commands_at_once_on_two_lakes(terminal: Terminal, tmp_path: Path) -> None:
    shops = [new_shop(tmp_path / name) for name in ("one", "two")]

    processes = [terminal.start("-m", "lakehouse", "run", str(shop.pipeline), "--json") for shop in shops]
    documents = [terminal.document(process) for process in processes]

    assert [document["exit_code"] for document in documents] == [0, 0]
    assert shops[0].rows("gold/notes") == shops[1].rows("gold/notes") != []
    assert len({engine.jvm for engine in terminal.idle_engines()}) == 2


def test_after_a_kill_in_the_middle_of_a_write_its_jvm_never_commits(terminal: Terminal, shop: Project) -> None:
    killed = terminal.start(str(PROGRAM), "killed", str(shop.pipeline))
    _, err = killed.communicate(timeout=TIMEOUT)
    assert killed.returncode == -signal.SIGKILL, err
    recorded = json.loads((shop.lake / "_state/lock").read_text())["jvm"]

    document = terminal.lakehouse("run", str(shop.pipeline))

    assert document["exit_code"] == 0
    jvm = Process.from_document(recorded)
    assert jvm
    assert not jvm.is_alive()
    time.sleep(WRITE_SECONDS)  # a job that went on would have committed by now
    assert not (shop.lake / LATE_TABLE / "_delta_log/00000000000000000000.json").exists()
    assert jvm not in {engine.jvm for engine in terminal.folder.engines()}
    assert terminal.lakehouse("verify", str(shop.pipeline))["failed"] == 0


def test_a_jvm_that_hangs_is_replaced_and_the_command_goes_on(terminal: Terminal, shop: Project) -> None:
    terminal.part("session", shop)
    stopped = terminal.idle_engines()
    for engine in stopped:
        assert engine.jvm
        engine.jvm.kill(signal.SIGSTOP)

    document = terminal.part("session", shop)

    assert document["jvm"] not in {engine.jvm.pid for engine in stopped if engine.jvm}
    assert any(engine.jvm and not engine.jvm.is_alive() for engine in stopped)


def test_a_jvm_that_was_killed_is_replaced(terminal: Terminal, shop: Project) -> None:
    first = terminal.part("session", shop)
    for engine in terminal.folder.engines():
        assert engine.jvm
        engine.jvm.kill()

    second = terminal.part("session", shop)

    assert first["jvm"] != second["jvm"]


def test_after_exit_code_3_the_engine_is_not_used_again(terminal: Terminal, shop: Project) -> None:
    failed = terminal.start(str(PROGRAM), "failed", str(shop.pipeline))
    document = json.loads(failed.communicate(timeout=TIMEOUT)[0])

    assert Process.of(document["jvm"]) is None
    assert document["jvm"] not in {engine.jvm.pid for engine in terminal.folder.engines() if engine.jvm}


def test_other_credentials_get_another_engine_which_ends_when_it_is_idle(terminal: Terminal, shop: Project) -> None:
    before = {engine.jvm for engine in terminal.folder.engines()}

    document = terminal.part("session", shop, AWS_ACCESS_KEY_ID="AKIA2", LAKEHOUSE_ENGINE_IDLE="2s")

    jvm = Process.of(document["jvm"])
    assert jvm not in before
    if jvm:  # else it has already ended
        assert_ended(jvm)
    assert document["jvm"] not in {engine.jvm.pid for engine in terminal.folder.engines() if engine.jvm}


def test_a_jvm_ends_with_its_keeper(terminal: Terminal, shop: Project) -> None:
    document = terminal.part("session", shop)
    (engine,) = [each for each in terminal.folder.engines() if each.jvm and each.jvm.pid == document["jvm"]]

    engine.keeper.kill()

    assert_ended(engine.jvm)


def test_without_an_engine_a_command_ends_its_jvm(terminal: Terminal, shop: Project) -> None:
    document = terminal.part("session", shop, LAKEHOUSE_ENGINE="off")

    jvm = Process.of(document["jvm"])
    if jvm:
        assert_ended(jvm)
    assert document["jvm"] not in {engine.jvm.pid for engine in terminal.folder.engines() if engine.jvm}
