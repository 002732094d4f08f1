"""Runs the crash matrix: make crash, make crash SEED=7, make crash POINT=run/after_merge@gold/notes:1."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crash import full_disk, kills, points, report
from crash.cases import Case, choose
from crash.scenarios import SCENARIOS
from crash.session import start_session
from crash.warm import Outcome, Unbroken, break_off, run_unbroken

# Each part is a process.
PARTS = (
    ("run", "first", "spark", "backlog", "expire", "delta", "late"),
    ("loyalty", "stream", "forget", "again", "replay", "reset", "retype"),
)
_WARM_SHARES = (0.67, 0.33)  # of the parts: the second one has the kills, too
# Every fifteenth lake is verified too, and every fifth after a kill: the others are equal to one that is.
_VERIFIED, _VERIFIED_KILLS = 15, 5


def main() -> None:
    """Run both parts, each in a process of its own, or the part or the case that the arguments name."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the choice of cases")
    parser.add_argument("--warm", type=int, default=300, help="cases in a JVM that goes on")
    parser.add_argument("--kills", type=int, default=30, help="kills at failpoints")
    parser.add_argument("--random", type=int, default=20, help="kills at random instants")
    parser.add_argument("--disks", type=int, default=12, help="disks that become full")
    parser.add_argument("--point", help="one case, as a failed one is printed")
    parser.add_argument("--out", type=Path, help="where to write the report")
    parser.add_argument("--results", type=Path, nargs="+", help="write the report of results that parts have written")
    parser.add_argument("--part", type=int, choices=range(len(PARTS)), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        sys.exit(_run_one(arguments.point))
    if arguments.part is not None:
        _run_part(arguments)
        return
    started = time.monotonic()
    if arguments.results:
        parts = [json.loads(file.read_text(encoding="utf-8")) for file in arguments.results]
        seconds = sum(part["seconds"] for part in parts)
    else:
        parts, seconds = _run_parts(sys.argv[1:]), 0.0
    document = report.merge(parts)
    text = report.to_text(document, arguments.seed, seconds or time.monotonic() - started)
    print(text)
    if arguments.out and document["outcomes"]:
        arguments.out.write_text(text, encoding="utf-8")
        points.REACHED.write_text("".join(f"{name}\n" for name in document["reached"]), encoding="utf-8")
    sys.exit(any(outcome["faults"] for outcome in document["outcomes"]) or bool(document["never_reached"]))


def _run_parts(arguments: list[str]) -> list[dict[str, Any]]:
    """Run the parts, and return their results: by files, since the VACUUM of Delta prints what it deletes."""
    command = [sys.executable, "-m", "crash", *arguments]
    with tempfile.TemporaryDirectory(prefix="crash") as name:
        files = [Path(name, f"{number}.json") for number in range(len(PARTS))]
        parts = [subprocess.Popen([*command, "--part", str(n), "--out", str(file)]) for n, file in enumerate(files)]
        codes = [process.wait() for process in parts]
        if any(codes):
            sys.exit("a part of the crash matrix ended with an error")
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _run_part(arguments: argparse.Namespace) -> None:
    """Run the scenarios of one part, and write its results as JSON to the file of `--out`."""
    with tempfile.TemporaryDirectory(prefix="crash") as name:
        folder = Path(name)
        start_session(name)
        unbroken = {each: run_unbroken(SCENARIOS[each], folder / each) for each in PARTS[arguments.part]}
        arguments.out.write_text(json.dumps(break_all(unbroken, arguments, folder)), encoding="utf-8")


def break_all(unbroken: dict[str, Unbroken], arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Break the commands of scenarios off, and return the results.

    Args:
        unbroken: The scenarios by name, with their unbroken runs.
        arguments: The numbers of cases, and the seed.
        folder: A folder for copies of the projects.
    """
    outcomes: list[Outcome] = []
    started, warm = time.monotonic(), [u for u in unbroken.values() if not u.prepared.scenario.only_kills]
    cases = [case for each in warm for case in each.trace.cases(each.prepared.scenario.name)]
    count = round(arguments.warm * _WARM_SHARES[arguments.part])
    for number, case in enumerate(choose(cases, count, arguments.seed)):
        _note(outcomes, break_off(unbroken[case.scenario], case, folder / "case", number % _VERIFIED == 0))
    for outcome in _fill_disks(unbroken, arguments.disks, folder / "disk"):
        _note(outcomes, outcome)
    for outcome in _kill_all(unbroken, arguments, folder / "case"):
        _note(outcomes, outcome)
    reached = sorted(set().union(*(each.trace.names for each in unbroken.values())))
    return {
        "outcomes": [asdict(outcome) for outcome in outcomes],
        "reached": reached,
        "places": len(cases),
        "seconds": time.monotonic() - started,
    }


def _fill_disks(unbroken: dict[str, Unbroken], count: int, folder: Path) -> Iterator[Outcome]:
    """Run the first commands on disks that become full at this many sizes, if a small disk can be mounted here."""
    if "run" not in unbroken:
        return
    needed = full_disk.needed_bytes(unbroken["run"])
    try:
        with full_disk.small_disk(folder) as disk:
            for number in range(count):
                yield full_disk.run_on_full_disk(unbroken["run"], needed * number // count, disk)[0]
    except full_disk.CannotMount as reason:
        print(f"no full disks: {reason}", file=sys.stderr)


def _kill_all(unbroken: dict[str, Unbroken], arguments: argparse.Namespace, folder: Path) -> Iterator[Outcome]:
    """Kill processes of the scenarios that are for kills: at failpoints, and at random instants."""
    of_kills = {name: each for name, each in unbroken.items() if each.prepared.scenario.only_kills}
    if not of_kills:
        return
    cases = [case for name, each in of_kills.items() for case in each.trace.cases(name) if kills.can_name(case)]
    plan = kills.plan(choose(cases, arguments.kills, arguments.seed), arguments.kills, arguments.seed)
    for number, (case, victim) in enumerate(plan):
        yield kills.kill_at(of_kills[case.scenario], case, victim, folder, number % _VERIFIED_KILLS == 0)
    if arguments.random:
        loyalty, chosen = of_kills["loyalty"], random.Random(arguments.seed)
        seconds = kills.seconds_of_command(loyalty, folder)
        for number in range(arguments.random):
            victim = kills.VICTIMS[number % len(kills.VICTIMS)]
            yield kills.kill_after(loyalty, chosen.uniform(1, seconds), victim, folder, number % _VERIFIED_KILLS == 0)


def _note(outcomes: list[Outcome], outcome: Outcome) -> None:
    outcomes.append(outcome)
    print(report.line(outcome), file=sys.stderr, flush=True)


def _run_one(text: str) -> int:
    """Run one case, in this JVM if that is possible."""
    case = Case.parse(text)
    with tempfile.TemporaryDirectory(prefix="crash") as name:
        folder, outcomes = Path(name), list[Outcome]()
        start_session(name)
        unbroken = run_unbroken(SCENARIOS[case.scenario], folder / "scenario")
        if unbroken.prepared.scenario.only_kills:
            for victim in kills.VICTIMS:
                _note(outcomes, kills.kill_at(unbroken, case, victim, folder / "case"))
        else:
            _note(outcomes, break_off(unbroken, case, folder / "case", verify=True))
    return int(any(outcome.faults for outcome in outcomes))


if __name__ == "__main__":
    main()
