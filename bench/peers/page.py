"""Writes the page of results: one section per measurement, which replaces the previous one of the same heading."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from peers import trial

MB = 1e6
_PACKAGES = ("pyspark", "delta-spark", "duckdb", "polars", "pandas", "pyarrow", "datacompy")


@dataclass(frozen=True)
class Measurement:
    """The measurement of all peers at one size and share.

    Attributes:
        rows: The number of rows in v1.
        share: The share of changed rows in v2.
        rounds: The number of rounds.
        results: The results of each peer, one per round.
    """

    rows: int
    share: float
    rounds: int
    results: dict[str, list[dict[str, Any]]]


DIFF_HEADING = "## A diff, beside other tools"
_DIFF_TEXT = """Each cell is seconds, warm, and in brackets the ratio to DuckDB in the same round. The last columns have
our first comparison of a process (cold), the peak memory of Python and the JVM together, and the bytes that bronze
wrote for each byte of the changed rows."""
_DIFF_COLUMNS = (
    *("rows", "changed", "ours: ingest", "ours: ingest and bronze", "duckdb", "polars", "pandas", "spark wide join"),
    *("datacompy", "delta merge", "ours cold: ingest and bronze", "memory, GB", "written per byte", "measured"),
)


def diff_row(run: Measurement) -> list[str]:
    """Return the cells of one size and share in the table of diffs, by `_DIFF_COLUMNS`."""
    warm = {peer: [t["warm"] for t in trials] for peer, trials in run.results.items()}
    cells, base = {}, warm.get("duckdb")
    if ours := run.results.get(trial.OURS):
        both = {kind: [t[kind] + t["bronze"][n] for t in ours] for n, kind in enumerate(("cold", "warm"))}
        warm["ours: ingest"], warm["ours: ingest and bronze"] = warm.pop(trial.OURS), both["warm"]
        cells["ours cold: ingest and bronze"] = f"{statistics.median(both['cold']):.1f}"
        cells["memory, GB"] = f"{statistics.median(t['peak'] for t in ours) / 1e9:.1f}"
        if changed := ours[0].get("changed_bytes"):
            cells["written per byte"] = f"{sum(ours[0]['bronze_written'].values()) / changed:.1f}"
    cells |= {peer: _seconds_and_ratio(seconds, base) for peer, seconds in warm.items()}
    cells |= {"rows": f"{run.rows:,}", "changed": f"{100 * run.share:g} %"}
    cells["measured"] = f"{datetime.now(timezone.utc):%Y-%m-%d}, {run.rounds} rounds"
    return [cells.get(name, "") for name in _DIFF_COLUMNS]


def _seconds_and_ratio(seconds: list[float], base: list[float] | None) -> str:
    text = f"{statistics.median(seconds):.2f}"
    if base is None or base is seconds:
        return text
    return f"{text} ({statistics.median(s / b for s, b in zip(seconds, base, strict=True)):.1f})"


def diff_section(rows: list[list[str]], old: str = "") -> str:
    """Return the section of diffs, with the rows of an earlier one whose size and share were not measured again."""
    return table_section(DIFF_HEADING, _DIFF_TEXT, _DIFF_COLUMNS, merged_rows(rows, old, 2))


def merged_rows(rows: list[list[str]], old: str, key_cells: int) -> list[list[str]]:
    """Return the rows of a table with those of an earlier section that were not measured again, in order.

    Args:
        rows: The cells of the new rows.
        old: The earlier section; empty if there is none.
        key_cells: How many of the first cells identify a row.
    """
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in old.splitlines() if line.startswith("|")]
    kept = {tuple(row[:key_cells]): row for row in [*found[2:], *rows]}
    return [kept[key] for key in sorted(kept, key=lambda key: [_order(cell) for cell in key])]


def _order(cell: str) -> tuple[float, str]:
    number = cell.replace(",", "").removesuffix("%").strip()
    return (float(number), "") if re.fullmatch(r"[\d.]+", number) else (-1.0, cell)


def table_section(heading: str, text: str, columns: Sequence[str], rows: list[list[str]]) -> str:
    """Return a section with a table."""
    lines = [heading, "", text, "", "| " + " | ".join(columns) + " |", "|" + "--:|" * (len(columns) - 1) + "---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *environment_lines()]) + "\n"


def read_section(page: Path, heading: str) -> str:
    """Return the section of a page with a heading; empty if there is none."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    sections = re.split(r"(?m)^(?=## )", text)
    return next((part for part in sections if part.partition("\n")[0] == heading), "")


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
