"""Breaks commands off inside of this process, whose JVM goes on, and compares the lake after the next run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers import Project

from crash.cases import Break, Case, Trace
from crash.scenarios import NOT_REPEATED, SCENARIOS, Command, Prepared, Scenario
from crash.state import differences, lake_state
from lakehouse.failpoints import Interruption, handled_by


@dataclass
class Unbroken:
    """What a scenario's commands give without a break.

    Attributes:
        prepared: The project before them.
        project: The project after them.
        trace: The places that they reached.
        state: The lake after them.
        ledger_rows: How many rows the ledger has after each command.
    """

    prepared: Prepared
    project: Project
    trace: Trace
    state: dict[str, Any] = field(default_factory=dict)
    ledger_rows: list[int] = field(default_factory=list)


@dataclass
class Outcome:
    """The result of one case.

    Attributes:
        case: The case.
        kind: How it was broken off.
        faults: The differences from an unbroken run; empty if there are none.
        seconds: How long it took.
        verified: Whether `lakehouse verify` looked at the lake, too.
    """

    case: str
    kind: str
    faults: list[str]
    seconds: float = 0.0
    verified: bool = False


def run_unbroken(scenario: Scenario, folder: Path) -> Unbroken:
    """Make a scenario's project, and run its commands without a break."""
    prepared = Prepared(scenario, scenario.prepare(folder / "ready"))
    project = prepared.copy(folder / "unbroken")
    unbroken = Unbroken(prepared, project, Trace(str(project.lake)))
    with handled_by(unbroken.trace):
        for command in scenario.commands:
            done = project(*command)
            assert done.code == 0, (scenario.name, command, done.document, done.stderr)
            unbroken.ledger_rows.append(_count_rows(project))
    unbroken.state = lake_state(project.lake, scenario.counts_commits)
    return unbroken


def break_off(unbroken: Unbroken, case: Case, folder: Path, verify: bool = False) -> Outcome:
    """Break the commands of a scenario off, run them again and compare the lake."""
    started, scenario = time.monotonic(), unbroken.prepared.scenario
    project = unbroken.prepared.copy(folder)
    point = Break(case, str(project.lake))
    broken = 0
    try:
        with handled_by(point):
            for number, command in enumerate(scenario.commands):
                broken = number
                project(*command)
    except Interruption:
        pass
    if not point.is_broken:
        return Outcome(str(case), "raise", ["the place was not reached"], time.monotonic() - started)
    (project.lake / "_state/lock").unlink(missing_ok=True)  # the JVM in it has not died, as after a kill
    faults = resume(unbroken, project, broken, verify)
    return Outcome(str(case), "raise", faults, time.monotonic() - started, verify)


def resume(unbroken: Unbroken, project: Project, broken: int, verify: bool) -> list[str]:
    """Run the commands from the broken one on, and return how the lake differs from that of an unbroken run."""
    scenario, faults = unbroken.prepared.scenario, []
    for number, command in enumerate(scenario.commands[broken:], start=broken):
        if _is_published(unbroken, project, number, command):
            continue
        done = project(*command)
        if done.code != 0:
            faults.append(f"{' '.join(command)} ended with {done.code}: {done.document} {done.stderr[-2000:]}")
    faults += differences(lake_state(project.lake, scenario.counts_commits), unbroken.state)
    versions, again = project.versions(), project.run()
    if again.code or not again.document.get("nothing_new"):
        faults.append(f"a further run is not up to date: {again.code} {again.document}")
    if project.versions() != versions:
        faults.append(f"a further run writes: {versions} -> {project.versions()}")
    if verify:
        checked = project("verify")
        failed = [check for check in checked.document.get("checks", []) if check["result"] == "failed"]
        faults += [f"verify: {check}" for check in failed] or ([str(checked.document)] if checked.code else [])
    return faults


def _is_published(unbroken: Unbroken, project: Project, number: int, command: Command) -> bool:
    is_once = any(word in command for word in NOT_REPEATED)
    return is_once and _count_rows(project) == unbroken.ledger_rows[number]


def _count_rows(project: Project) -> int:
    return len(project.rows_with_cdc("raw/ledger")) if "raw/ledger" in project.versions() else 0


def run_all_unbroken(names: Iterable[str], folder: Path) -> dict[str, Unbroken]:
    """Do `run_unbroken` for scenarios, by name."""
    return {name: run_unbroken(SCENARIOS[name], folder / name) for name in names}
