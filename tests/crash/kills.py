"""Kills a process that runs a command, its JVM or both, and compares the lake after the next run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from helpers import Project

from crash.cases import Case
from crash.warm import Outcome, Unbroken, resume
from lakehouse.failpoints import VARIABLE

VICTIMS = ("driver", "jvm", "both")
_PATIENCE = 300.0


def kill_at(unbroken: Unbroken, case: Case, victim: str, folder: Path, verify: bool = True) -> Outcome:
    """Kill the first command of a scenario when it reaches the place of a case."""
    started, project = time.monotonic(), unbroken.prepared.copy(folder)
    with _start(unbroken, project, f"{case.name}@{case.where}:stop:{case.number}") as process:
        is_there = _wait_until_stopped(process)
        if is_there:
            _kill(process, victim)
        errors = process.communicate(timeout=_PATIENCE)[1]
    if not is_there:
        return Outcome(str(case), victim, [f"the place was not reached: {errors[-2000:]}"], time.monotonic() - started)
    faults = _faults_of_exit(process, victim, errors) + resume(unbroken, project, 0, verify)
    return Outcome(str(case), victim, faults, time.monotonic() - started, verify)


def kill_after(unbroken: Unbroken, seconds: float, victim: str, folder: Path, verify: bool = True) -> Outcome:
    """Kill the first command of a scenario after a time."""
    started, project = time.monotonic(), unbroken.prepared.copy(folder)
    name = f"{unbroken.prepared.scenario.name}/after {seconds:.2f} s"
    with _start(unbroken, project, "") as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            _kill(process, victim)
        errors = process.communicate(timeout=_PATIENCE)[1]
    faults = _faults_of_exit(process, victim, errors) + resume(unbroken, project, 0, verify)
    return Outcome(name, victim, faults, time.monotonic() - started, verify)


def seconds_of_command(unbroken: Unbroken, folder: Path) -> float:
    """Return how long the first command of a scenario takes in a process of its own."""
    project, started = unbroken.prepared.copy(folder), time.monotonic()
    with _start(unbroken, project, "") as process:
        errors = process.communicate(timeout=_PATIENCE)[1]
    assert process.returncode == 0, errors
    return time.monotonic() - started


def can_name(case: Case) -> bool:
    """Whether the setting of a failpoint can name the place: a part of it that differs from run to run cannot be."""
    return "*" not in case.where and ":" not in case.where


def plan(cases: Iterable[Case], count: int, seed: int) -> Iterator[tuple[Case, str]]:
    """Yield this many cases by chance, with what is killed in each."""
    shuffled = sorted(cases)
    random.Random(seed).shuffle(shuffled)
    for number, case in enumerate(shuffled[:count]):
        yield case, VICTIMS[number % len(VICTIMS)]


def _start(unbroken: Unbroken, project: Project, setting: str) -> subprocess.Popen[str]:
    verb, *rest = unbroken.prepared.scenario.commands[0]
    command = [sys.executable, "-m", "lakehouse", verb, str(project.pipeline), *rest, "--json"]
    environment = os.environ | {"LAKEHOUSE_ENGINE": "off"} | ({VARIABLE: setting} if setting else {})
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)


def _wait_until_stopped(process: subprocess.Popen[str]) -> bool:
    """Wait until the process has stopped itself; return whether it did, and did not end."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if _status(process.pid)[0] == "T":
            return True
        time.sleep(0.05)
    return False


def _kill(process: subprocess.Popen[str], victim: str) -> None:
    jvms = [pid for pid in _children(process.pid) if _name(pid) == "java"]
    if victim != "driver":
        for pid in jvms:
            os.kill(pid, signal.SIGKILL)
    os.kill(process.pid, signal.SIGCONT if victim == "jvm" else signal.SIGKILL)


def _faults_of_exit(process: subprocess.Popen[str], victim: str, errors: str) -> list[str]:
    """Return what is wrong with how the command ended: one whose JVM was killed ends with 0 or 3."""
    if victim != "jvm" or process.returncode in (0, 3):
        return []
    return [f"the command whose JVM was killed ended with {process.returncode}: {errors[-3000:]}"]


def _children(pid: int) -> Iterator[int]:
    """Yield the processes below a process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _status(int(entry.name))[1:2] == [str(pid)]:
            yield int(entry.name)
            yield from _children(int(entry.name))


def _status(pid: int) -> list[str]:
    """Return the fields of a process after its name: the state, the parent and so on; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() or [""]
    except OSError:
        return [""]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
