"""Failpoints: the setting that turns one on, and that nothing happens without it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash.points import REACHED, SERVER_POINTS
from small_pipeline import write_pipeline

from lakehouse import failpoints
from lakehouse.cli import main
from lakehouse.errors import ConfigError
from lakehouse.failpoints import VARIABLE, Interruption, failpoint, handled_by, list_points, parse, points_of

LIVE = Path(__file__).parents[1] / "live"


@pytest.fixture(autouse=True)
def _switched_off_afterwards() -> Iterator[None]:
    with handled_by(lambda name, where: None):
        yield


def test_the_list_of_points_is_read_from_the_code() -> None:
    code = "def f(x):\n    failpoint('after_this', x)\n    if x:\n        failpoint('before_that')\n"
    assert list(points_of(code)) == ["after_this", "before_that"]
    with pytest.raises(TypeError, match="line 1: the name of a failpoint is a literal"):
        list(points_of("failpoint(name)"))
    assert {"after_ledger_append", "before_merge", "in_file_copy", "after_publish_commit"} <= {*list_points()}


def test_a_command_was_broken_off_at_every_point() -> None:
    """A new point is missing in the list until `make crash` has reached it; tests/live reaches those of servers."""
    reached = {*REACHED.read_text(encoding="utf-8").split()}
    of_servers = set(re.findall(r"[a-z_]{6,}", "".join(path.read_text() for path in LIVE.rglob("test_*.py"))))
    assert sorted({*list_points()} - reached - (of_servers & SERVER_POINTS.keys())) == []


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("after_ledger_apend:kill", "did you mean after_ledger_append?"),
        ("no such thing", "no such thing is no failpoint"),
        ("after_ledger_append", "nothing is no action"),
        ("after_ledger_append:explode", "explode is no action"),
        ("after_ledger_append:sleep", "a number of the failpoint is missing"),
        ("after_ledger_append:raise:second", "a number of the failpoint is missing or none"),
        ("after_ledger_append:raise:0", "too many or too small"),
        ("after_ledger_append:raise:1:1", "too many or too small"),
    ],
)
def test_a_setting_that_names_nothing_is_refused(setting: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(setting)
    assert expected in refused.value.to_text()


def test_a_command_with_a_wrong_setting_ends_with_2_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = write_pipeline(tmp_path)
    monkeypatch.setenv(VARIABLE, "after_lokc:kill")
    assert main(["run", str(pipeline)]) == 2
    assert "did you mean after_lock?" in capsys.readouterr().err
    assert not (tmp_path / "lake").exists()
    monkeypatch.delenv(VARIABLE)
    assert main(["validate", str(pipeline)]) == 0


def test_a_command_with_a_failpoint_begins_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "after_lock:raise")
    assert main(["validate", str(write_pipeline(tmp_path))]) == 0
    assert "after_lock:raise: this command is broken off on purpose" in capsys.readouterr().err


def test_a_point_acts_at_its_place_and_its_time_only() -> None:
    with handled_by(parse("after_merge@gold/notes:raise:2")):
        failpoint("after_merge", "lake/gold/notes")
        failpoint("after_merge", "lake/gold/others")
        failpoint("before_merge", "lake/gold/notes")
        with pytest.raises(Interruption, match="after_merge lake/gold/notes"):
            failpoint("after_merge", "lake/gold/notes")
        with pytest.raises(Interruption):  # the command is dead: other threads and clean-up end at their next point
            failpoint("before_unlock")
    failpoint("after_merge", "lake/gold/notes")


def test_sleep_waits_and_the_command_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("lakehouse.failpoints.time.sleep", slept.append)
    with handled_by(parse("after_merge:sleep:1.5")):
        failpoint("after_merge")
        failpoint("after_merge")
    assert slept == [1.5]


@pytest.mark.parametrize(("action", "signum"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_kill_and_stop_are_signals_that_nothing_handles(action: str, signum: signal.Signals) -> None:
    code = "from lakehouse.failpoints import activate_from_environment, failpoint\nactivate_from_environment()\n"
    command = [sys.executable, "-c", code + "failpoint('after_lock')"]
    with subprocess.Popen(command, env=os.environ | {VARIABLE: f"after_lock:{action}"}) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        process.kill()
    found = os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.WTERMSIG(status)
    assert found == signum


def test_without_a_setting_a_point_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_handler", None)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert failpoints.activate_from_environment() == ""
    failpoint("any name: nothing looks at it")
