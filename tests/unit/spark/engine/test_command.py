"""Which commands use an engine, and after which of them it serves the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from lakehouse import logs
from lakehouse.errors import ConfigError
from lakehouse.runner import schedule
from lakehouse.spark.engine import command
from lakehouse.spark.engine.files import Engine
from lakehouse.storage.processes import Process

ENGINE = Engine("a-1", "a", {}, Process(1, "1"), "2026-01-01T00:00:00+00:00")


@dataclass
class FakeLease:
    engine: Engine = ENGINE
    ends: list[str] = field(default_factory=list)
    used: Engine | None = None

    def release(self, used: Engine) -> None:
        self.ends.append("released")
        self.used = used

    def end(self) -> None:
        self.ends.append("ended")

    def kill(self) -> None:
        self.ends.append("killed")


def end_of_engine(
    exit_code: int | None, tidy: Callable[[], tuple[int, int]] = lambda: (1, 10), engine: Engine = ENGINE
) -> str:
    """Return what a command with this exit code does with its engine."""
    lease: Any = FakeLease(engine)
    connection: Any = SimpleNamespace(tidy=tidy)
    command.Command(logs.create_logger(), exit_code, lease, connection).give_back()
    (end,) = lease.ends
    return str(end)


@pytest.mark.parametrize(
    ("environment", "at_terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"CI": "true"}, True, False),
        ({"CI": "false"}, True, True),
        ({"LAKEHOUSE_ENGINE": ""}, True, True),
        ({"LAKEHOUSE_ENGINE": "off"}, True, False),
        ({"LAKEHOUSE_ENGINE": "on"}, False, True),
        ({"LAKEHOUSE_ENGINE": "on", "CI": "true"}, False, True),
    ],
)
def test_an_engine_is_used_at_a_terminal_and_on_request(
    environment: dict[str, str], at_terminal: bool, wanted: bool
) -> None:
    assert command.is_wanted(environment, at_terminal) == wanted


def test_a_switch_with_another_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="LAKEHOUSE_ENGINE is 'yes'"):
        command.is_wanted({"LAKEHOUSE_ENGINE": "yes"}, False)


def test_outside_a_command_no_engine_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_ENGINE", "on")
    assert command.current() is None

    with command.command(logs.create_logger()) as running:
        assert command.current() is running
    assert command.current() is None


@pytest.mark.parametrize(("text", "time"), [("", "0:15:00"), ("90s", "0:01:30"), ("1h", "1:00:00")])
def test_the_idle_time(text: str, time: str) -> None:
    assert str(command.idle_time({"LAKEHOUSE_ENGINE_IDLE": text})) == time


@pytest.mark.parametrize("text", ["15", "0m", "-1m", "1 h", "1d", "soon"])
def test_an_idle_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="LAKEHOUSE_ENGINE_IDLE"):
        command.idle_time({"LAKEHOUSE_ENGINE_IDLE": text})


@pytest.mark.parametrize(("every", "switch"), [(10, "on"), (15, "on"), (16, "off")])
def test_rounds_of_a_schedule_use_an_engine_that_waits_for_the_next_round(
    every: int, switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LAKEHOUSE_ENGINE", "LAKEHOUSE_ENGINE_IDLE", "CI"):
        monkeypatch.delenv(name, raising=False)
    pipeline = SimpleNamespace(schedule=SimpleNamespace(every=timedelta(minutes=every)))
    run: Any = SimpleNamespace(pipeline=pipeline)

    assert schedule.round_environment(run)["LAKEHOUSE_ENGINE"] == switch
    for name, value in (("LAKEHOUSE_ENGINE", "off"), ("CI", "true")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert schedule.round_environment(run)["LAKEHOUSE_ENGINE"] == "off"


@pytest.mark.parametrize("exit_code", [0, 4, 5, 6])
def test_after_a_regular_end_the_engine_serves_the_next_command(exit_code: int) -> None:
    assert end_of_engine(exit_code) == "released"


@pytest.mark.parametrize("exit_code", [1, 2, 3, 130, None])
def test_after_a_failure_or_an_interruption_the_engine_is_killed(exit_code: int | None) -> None:
    assert end_of_engine(exit_code) == "killed"


def test_an_engine_that_cannot_be_tidied_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> tuple[int, int]:
        raise RuntimeError("a job runs")

    never = threading.Event()

    def hangs() -> tuple[int, int]:
        never.wait(5)
        return 1, 10

    monkeypatch.setattr(command, "_TIDY_SECONDS", 0.1)
    assert end_of_engine(0, fails) == "killed"
    assert end_of_engine(0, hangs) == "killed"
    never.set()


def test_an_engine_is_ended_when_it_is_worn_out() -> None:
    assert end_of_engine(0, engine=replace(ENGINE, commands=command.MAX_COMMANDS - 2)) == "released"
    assert end_of_engine(0, engine=replace(ENGINE, commands=command.MAX_COMMANDS - 1)) == "ended"
    assert end_of_engine(0, lambda: (70, 100)) == "released"
    assert end_of_engine(0, lambda: (71, 100)) == "ended"
