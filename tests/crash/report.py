"""Writes the report of the crash matrix: points, kills, runs compared, time, and every fault."""

from __future__ import annotations

from collections import Counter
from typing import Any

from crash.points import SERVER_POINTS
from crash.scenarios import SCENARIOS
from crash.warm import Outcome
from lakehouse.failpoints import list_points


def line(outcome: Outcome) -> str:
    """Return a line about a case, and its faults below."""
    status = "FAULT" if outcome.faults else "ok"
    return "\n  ".join([f"{status:5} {outcome.kind:6} {outcome.seconds:5.1f} s  {outcome.case}", *outcome.faults])


def merge(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of all parts as one."""
    reached = {name for part in parts for name in part["reached"]}
    return {
        "outcomes": [outcome for part in parts for outcome in part["outcomes"]],
        "places": sum(part["places"] for part in parts),
        "reached": sorted(reached),
        "never_reached": sorted(set(list_points()) - reached - SERVER_POINTS.keys()),
    }


def to_text(document: dict[str, Any], seed: int, seconds: float) -> str:
    """Return the report as Markdown.

    Args:
        document: The results of all parts.
        seed: The seed of the choice.
        seconds: How long all of it took.
    """
    outcomes = document["outcomes"]
    kinds = Counter(outcome["kind"] for outcome in outcomes)
    at_random = sum("/after " in outcome["case"] for outcome in outcomes)
    faults = [outcome for outcome in outcomes if outcome["faults"]]
    rows = [
        ("failpoints in the code", len(list_points())),
        ("reached by these commands", len(document["reached"])),
        ("reached only with a server (`make test-live`)", len(SERVER_POINTS)),
        ("places at which commands of the small pipeline pass them", document["places"]),
        ("commands broken off in a warm JVM", kinds["raise"]),
        ("processes killed (SIGKILL): the driver", kinds["driver"]),
        ("... its JVM", kinds["jvm"]),
        ("... both", kinds["both"]),
        ("of these kills, at a random instant", at_random),
        ("commands on a disk that becomes full", kinds["full"]),
        ("lakes compared with that of an unbroken run", len(outcomes)),
        ("of these, different", len(faults)),
        ("lakes verified", sum(outcome["verified"] for outcome in outcomes)),
        ("minutes", round(seconds / 60)),
    ]
    lines = [
        "# Commands that are broken off",
        "",
        f"Written by `make crash SEED={seed}`. Every lake is compared with that of an unbroken run: rows of tables,",
        "change sets, ledger, Change Data Feed, number of commits that changed rows, landed files, what is left over.",
        "A further run then has nothing to do.",
        "",
        "| | |",
        "|---|--:|",
        *[f"| {text} | {number} |" for text, number in rows],
        "",
        "| commands | cases | different |",
        "|---|--:|--:|",
        *_by_scenario(outcomes),
        "",
    ]
    if document["never_reached"]:
        lines += ["Never reached: " + ", ".join(document["never_reached"]), ""]
    lines += [f"- `{o['case']}` ({o['kind']}): {o['faults'][0].splitlines()[0][:300]}" for o in faults]
    return "\n".join(lines).rstrip() + "\n"


def _by_scenario(outcomes: list[dict[str, Any]]) -> list[str]:
    cases = Counter(outcome["case"].partition("/")[0] for outcome in outcomes)
    faulty = Counter(outcome["case"].partition("/")[0] for outcome in outcomes if outcome["faults"])
    commands = {name: "; ".join(" ".join(c) for c in SCENARIOS[name].commands) for name in cases}
    return [f"| {name}: `{commands[name]}` | {cases[name]} | {faulty[name]} |" for name in sorted(cases)]
