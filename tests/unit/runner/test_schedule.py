"""The schedule runs one round at a time, from start to start, whatever the result, until a stop request.

Rounds are real processes on a lake that is up to date, so that they start no JVM.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from small_pipeline import write_pipeline

from lakehouse import logs
from lakehouse.cli import main
from lakehouse.config import load
from lakehouse.runner import schedule, signals, up_to_date
from lakehouse.storage.paths import Lake

# --- times ------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that only sleep and work move forward."""

    def __init__(self) -> None:
        self.now, self.starts = 1000.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def rounds(self, taking: list[float], every: float) -> list[float]:
        """Return the start of each round in seconds from the first, if they take this long."""

        def run_round() -> timedelta:
            self.starts.append(self.now)
            self.now += taking[len(self.starts) - 1]
            return timedelta(seconds=every)

        log = logs.create_logger("text")
        schedule.repeat_rounds(run_round, lambda: len(self.starts) == len(taking), log, self, self.sleep)
        return [round(start - self.starts[0], 6) for start in self.starts]


def test_rounds_are_counted_from_start_to_start() -> None:
    assert Clock().rounds([2, 7, 0, 0], every=10) == [0, 10, 20, 30]


def test_a_long_round_is_followed_at_once_by_one_round_only() -> None:
    assert Clock().rounds([35, 1, 0], every=10) == [0, 35, 45]


def test_a_stop_request_ends_a_wait() -> None:
    clock = Clock()

    def run_round() -> timedelta:
        clock.starts.append(clock.now)
        return timedelta(hours=6)

    schedule.repeat_rounds(run_round, lambda: clock.now >= 1060, logs.create_logger("text"), clock, clock.sleep)

    assert (clock.starts, clock.now) == ([1000], 1060)


# --- real rounds ------------------------------------------------------------------------------------------------


class Shop:
    """A pipeline on a lake that is up to date, whose `on_failure` appends to `received` and then runs a command."""

    def __init__(self, folder: Path, then: str = "true") -> None:
        self.folder, self.received = folder, folder / "received"
        self.source = folder / "source"
        self.source.mkdir()
        (self.source / "items.csv").write_text("id\n1\n")
        self.then = then
        self.configure()
        up_to_date.write_mark(self.lake, up_to_date.read_inputs(load(folder), self.lake), load(folder))

    @property
    def lake(self) -> Lake:
        return Lake(str(self.folder / "lake"))

    def configure(self) -> None:
        command = ["sh", "-c", f"cat >> {self.received}; echo >> {self.received}; {self.then}"]
        write_pipeline(self.folder, schedule={"every": "1s"}, on_failure={"command": command})

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The records of the rounds, the oldest first."""
        files = sorted(self.lake.state_path("runs").glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        return [json.loads(file.read_text()) for file in files]

    @contextmanager
    def scheduled(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "lakehouse", "run", str(self.folder), "--schedule", *arguments]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def wait_until(condition: Callable[[], object], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.05)


def test_failed_rounds_do_not_end_the_schedule_and_the_pipeline_is_read_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with shop.scheduled("--log", "json", "--json") as process:
        wait_until(lambda: len(shop.runs) >= 2)  # nothing new, twice
        text = (tmp_path / "pipeline.json").read_text()
        (tmp_path / "pipeline.json").write_text(text.replace('"format"', '"fromat"'))
        wait_until(shop.received.exists)  # an unreadable pipeline notifies the target of its last readable version
        (tmp_path / "pipeline.json").write_text(text)
        shop.source.rename(tmp_path / "away")
        wait_until(lambda: shop.runs[-1]["exit_code"] == 2)
        (tmp_path / "away").rename(shop.source)
        wait_until(lambda: shop.runs[-1]["exit_code"] == 0)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)

    assert process.returncode == 0, err
    document = json.loads(out)
    assert (document["pipeline"], document["exit_code"], document["last"]["nothing_new"]) == ("shop", 0, True)
    events = [json.loads(line) for line in err.splitlines()]  # stderr has nothing else
    codes = [e["exit_code"] for e in events if e["event"] == "round ended"]
    assert document["rounds"] == len(codes) >= 5
    assert (codes[:2], codes[-1], set(codes)) == ([0, 0], 0, {0, 2})
    sent = [json.loads(line) for line in shop.received.read_text().splitlines() if line]
    assert 'did you mean "format"' in sent[0]["error"]
    assert "does not exist" in sent[-1]["error"]


def test_a_killed_round_is_notified_and_the_next_one_runs(tmp_path: Path) -> None:
    # The command kills its parent once: the round, which fails because its source does not exist.
    kill_parent_once = f"test -e {tmp_path}/dead || {{ touch {tmp_path}/dead; kill -9 $PPID; }}"
    shop = Shop(tmp_path, then=kill_parent_once)
    shop.source.rename(tmp_path / "away")
    with shop.scheduled("--log", "json") as process:
        wait_until(lambda: shop.received.exists() and len(shop.received.read_text().splitlines()) > 2)
        (tmp_path / "away").rename(shop.source)
        wait_until(lambda: shop.runs[-1]["exit_code"] == 0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)

    assert process.returncode == 0, err
    sent = [json.loads(text) for text in shop.received.read_text().splitlines() if text]
    assert [each["exit_code"] for each in sent[:3]] == [2, 3, 2]
    assert "ended by SIGKILL" in sent[1]["error"]
    codes = [e["exit_code"] for e in map(json.loads, err.splitlines()) if e["event"] == "round ended"]
    assert (codes[:2], codes[-1]) == ([3, 2], 0)


def test_a_stop_request_while_a_round_starts_is_no_failure(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with shop.scheduled("--log", "json") as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(children.read_text)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)

    assert process.returncode == 0, err
    assert "round failed" not in err
    assert not shop.received.exists()


def test_an_unreadable_pipeline_at_the_start_ends_the_schedule(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    (tmp_path / "pipeline.json").write_text("{}")

    with shop.scheduled() as process:
        out, err = process.communicate(timeout=30)

    assert (process.returncode, out) == (2, "")
    assert "missing, and required" in err


@pytest.mark.parametrize("words", [["--as-of", "2026-01-01"], ["--full-refresh"]])
def test_options_for_a_single_run_are_rejected_with_a_schedule(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Shop(tmp_path)
    assert main(["run", str(tmp_path), "--schedule", *words]) == 2
    assert "--schedule together with" in capsys.readouterr().err


# --- stopping ---------------------------------------------------------------------------------------------------

WORKING = """
import sys, time
from lakehouse.runner.signals import handle_stop_signals
with handle_stop_signals() as stop, handle_stop_signals() as inner:
    print("working", flush=True)
    while not inner():
        time.sleep(0.05)
    print("stopping", flush=True)
    time.sleep(float(sys.argv[1]))
print("ended in order", flush=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_the_work_finish_and_the_second_ends_it_at_once(signum: signal.Signals) -> None:
    for seconds, again in ((0, False), (60, True)):
        with subprocess.Popen([sys.executable, "-c", WORKING, str(seconds)], stdout=subprocess.PIPE, text=True) as work:
            assert work.stdout
            assert work.stdout.readline() == "working\n"
            work.send_signal(signum)
            assert work.stdout.readline() == "stopping\n"
            if again:
                work.send_signal(signum)
            rest = work.stdout.read()  # communicate() would miss what the reader of lines has read ahead
            work.wait(10)
        assert (work.returncode, rest) == ((-signum, "") if again else (0, "ended in order\n"))


def test_signal_handlers_are_restored() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with signals.handle_stop_signals() as stop:
        assert not stop()
        assert signal.getsignal(signal.SIGTERM) == stop.handle_signal
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
