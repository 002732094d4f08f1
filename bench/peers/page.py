"""Writes the page of results: one section per measurement, which replaces the previous one of the same heading."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from peers import trial
from peers.data import Changes

MB = 1e6
_PACKAGES = ("pyspark", "delta-spark", "duckdb", "polars", "pandas", "pyarrow", "datacompy")


@dataclass(frozen=True)
class Measurement:
    """The measurement of all peers at one size and share.

    Attributes:
        rows: The number of rows in v1.
        share: The share of changed rows in v2.
        rounds: The number of rounds.
        expected: The generated changes.
        results: The results of each peer, one per round.
        skipped: The reason for each peer that was not run.
        new: The CSV file of v2.
    """

    rows: int
    share: float
    rounds: int
    expected: Changes
    results: dict[str, list[dict[str, Any]]]
    skipped: dict[str, str]
    new: Path


def section(run: Measurement) -> str:
    """Return the Markdown section of one size and share: the seconds, memory and bytes of each peer."""
    changes = run.expected
    lines = [
        f"## {run.rows:,} rows, {100 * run.share:g} % changed",
        "",
        f"{changes.inserted:,} inserted, {changes.updated:,} updated, {changes.deleted:,} deleted; the new CSV has"
        f" {run.new.stat().st_size / MB:,.0f} MB. Seconds are medians of {run.rounds} rounds (minimum to maximum); x is"
        " the median of the ratios to DuckDB in the same round.",
        "",
        "| | cold, s | x | warm, s | x | peak memory, MB | shuffled, MB | change set, MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    base = run.results.get("duckdb")
    for peer, trials in run.results.items():
        if peer == trial.OURS:
            lines.append(_table_row("**ours**: ingest", _cold_and_warm(trials), base, trials))
            total = [{k: t[k] + t["bronze"][n] for n, k in enumerate(("cold", "warm"))} for t in trials]
            lines.append(_table_row("**ours**: ingest and bronze", total, base, None))
        else:
            lines.append(_table_row(peer, _cold_and_warm(trials), base, trials))
    lines += ["", *[_write_amplification(peer, t[0]) for peer, t in run.results.items() if "bronze_written" in t[0]]]
    lines += [f"- {peer} was skipped: {reason}" for peer, reason in run.skipped.items()]
    lines += [
        "- every peer found the same changes, by their counts and a checksum over all columns",
        "",
        *environment_lines(),
    ]
    return "\n".join(lines) + "\n"


def write_section(page: Path, text: str) -> None:
    """Write a section into the page: in place of the section with the same heading, or else at the end."""
    old = page.read_text(encoding="utf-8") if page.exists() else "# What a diff costs\n"
    heading = text.partition("\n")[0]
    parts = re.split(r"(?m)^(?=## )", old)
    sections = [part.strip("\n") + "\n" for part in parts]
    same = [n for n, part in enumerate(sections) if part.partition("\n")[0] == heading]
    if same:
        sections[same[0]] = text
    else:
        sections.append(text)
    page.write_text("\n".join(sections), encoding="utf-8")


def _cold_and_warm(trials: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [{"cold": t["cold"], "warm": t["warm"]} for t in trials]


def _table_row(name: str, seconds: list[dict[str, float]], base: Any, trials: list[dict[str, Any]] | None) -> str:
    cells = [name]
    for kind in ("cold", "warm"):
        all_of = [s[kind] for s in seconds]
        cells.append(f"{statistics.median(all_of):.2f} ({min(all_of):.2f} to {max(all_of):.2f})")
        ratios = [s[kind] / b[kind] for s, b in zip(seconds, base or [], strict=bool(base))]
        cells.append(f"{statistics.median(ratios):.1f}" if ratios else "")
    for gauge in ("peak", "shuffled", "written"):
        values = [t[gauge] for t in trials or [] if t[gauge] is not None]
        cells.append(f"{statistics.median(values) / MB:,.1f}" if values else "")
    return "| " + " | ".join(cells) + " |"


def _write_amplification(peer: str, result: dict[str, Any]) -> str:
    """Return the bytes written by applying the change set, compared with the bytes of the changed rows."""
    wrote = result["bronze_written"]
    kinds = ", ".join(f"{kind} {size / MB:,.1f}" for kind, size in wrote.items())
    text = f"- {peer}: the MERGE wrote {sum(wrote.values()) / MB:,.1f} MB ({kinds})"
    if changed := result.get("changed_bytes"):
        text += f", {sum(wrote.values()) / changed:,.1f} times the {changed / MB:,.2f} MB of the changed rows"
    return text


def environment_lines() -> list[str]:
    """Return a line with the machine, the versions, the date and the command of a measurement."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = [f"{name} {version}" for name in _PACKAGES if (version := _package_version(name))]
    command = " ".join(["python", os.path.relpath(sys.argv[0]), *_command_arguments()])
    return [
        f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GB, Python {platform.python_version()},"
        f" {_java_version()}; {', '.join(versions)}. {datetime.now(timezone.utc):%Y-%m-%d}, by `{command}`",
    ]


def _command_arguments() -> list[str]:
    """Return the arguments of the command line, without the private folder of the generated files."""
    given = [f"'{a}'" if " " in a else a for a in sys.argv[1:] if not a.startswith("--data=")]
    return [a for n, a in enumerate(given) if a != "--data" and (n == 0 or given[n - 1] != "--data")]


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _java_version() -> str:
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else "java"
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    result = re.search(r'version "([^"]+)"', output)
    return f"Java {result[1]}" if result else "no Java found"
