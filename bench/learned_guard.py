"""Replays `guard: {learned: true}` over generated years of five kinds of tables, and counts false alarms and misses.

    python bench/learned_guard.py --out docs/evidence/learned-guard.md       # `make docs` runs this
    python bench/learned_guard.py --real NAME=PIPELINE ... --reasons         # real snapshots, after `lakehouse extract`

Each year is a series of counts with a fixed seed, and the rule is the product's own (`guards.hold_reason`); no rows
are read. A snapshot of an ordinary day that is held is a false alarm, and is approved. On the 15th of each month from
March on, each incident takes the place of the day's snapshot once; one that is not held is a miss.

Real snapshots are those in the landing zone of a pipeline, such as the history of a file in git. Incidents take the
place of every tenth one that is judged.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from random import Random
from statistics import median

from peers import landed_days
from peers import page as pages

from lakehouse.config import Guard
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.guards import hold_reason
from lakehouse.lake.usual_range import FIGURES, MAX_SNAPSHOTS, MIN_SNAPSHOTS, PastFigures
from lakehouse.text import counted

YEARS = range(20)  # the seeds
FIRST_DAY = date(2025, 1, 1)
REAL = "## Real snapshots"
ABOUT_REAL = """Values were compared as texts. Every snapshot was approved, so that an incident of the source counts as
held, too: *both* are those that the default limits hold as well. A generated incident takes the place of every tenth
snapshot that is judged. Not read: what lacks a column, is no JSON, or has a key twice.

In a table of fewer than 100 rows 1 % is less than one row, and most figures have no deviation: nearly every snapshot
with another number of changes is held. Such a table does without `learned`."""
EVERY = 10  # of the real snapshots, one has incidents in its place
SAMPLES = Path(__file__).parents[1] / "samples"
DEFAULT, LEARNED = Guard(), Guard(learned=True)

Chosen = Callable[[date, int], bool]
"""Whether incidents take the place of a snapshot, by its day and the number of snapshots judged before it."""


@dataclass(frozen=True)
class Day:
    """What an ordinary day does to a table."""

    inserted: int
    updated: int
    deleted: int


@dataclass(frozen=True)
class Kind:
    """A kind of table.

    Attributes:
        text: What it is, for the page.
        rows: Its rows on the first day.
        day: Returns what a day does to it, from its date, its rows and a source of random numbers.
    """

    text: str
    rows: int
    day: Callable[[date, int, Random], Day]


def _about(random: Random, mean: float, deviation: float) -> int:
    return max(round(random.gauss(mean, deviation)), 0)


def _customers(day: date, rows: int, random: Random) -> Day:
    share = 1.0 if day.weekday() < 5 else 0.3
    return Day(*(_about(random, mean * share, mean * share / 8) for mean in (60, 400, 5)))


def _orders(day: date, rows: int, random: Random) -> Day:
    share = 1.0 if day.weekday() < 5 else 0.4
    return Day(_about(random, 300 * share, 30 * share), _about(random, 250 * share, 30 * share), 0)


def _prices(day: date, rows: int, random: Random) -> Day:
    if day.weekday() >= 5:  # the same file again
        return Day(0, 0, 0)
    return Day(random.choice((0, 0, 0, 1)), min(_about(random, rows * 0.95, rows * 0.01), rows), 0)


def _accounts(day: date, rows: int, random: Random) -> Day:
    is_month_end = (day + timedelta(days=1)).day == 1
    updated = _about(random, rows * 0.15, rows * 0.01) if is_month_end else _about(random, 100, 20)
    return Day(_about(random, 20, 4), updated, _about(random, 2, 1))


def _catalogue(day: date, rows: int, random: Random) -> Day:
    if (day.month, day.day) in ((3, 1), (9, 1)):  # a season begins
        return Day(_about(random, 400, 20), _about(random, 900, 50), _about(random, 300, 20))
    return Day(*(random.choice((0, 0, 0, 1, 2)) for _ in range(3)))


KINDS = {
    "customers": Kind("20,000 rows, slow growth, weekends at 30 %", 20_000, _customers),
    "orders": Kind("grows from 10,000 to 90,000 rows, weekends at 40 %", 10_000, _orders),
    "prices": Kind("2,000 rows, nearly all change on weekdays", 2_000, _prices),
    "accounts": Kind("50,000 rows, 15 % change at the end of a month", 50_000, _accounts),
    "catalogue": Kind("5,000 rows, nearly still, two seasons", 5_000, _catalogue),
}
# What the file of a day has become, as shares of the rows before it: inserted, updated, deleted, read twice.
INCIDENTS: dict[str, tuple[float, float, float, float] | None] = {
    "the file ends after half of its rows": (0, 0, 0.5, 0),
    "the file ends after 90 % of its rows": (0, 0, 0.1, 0),
    "the last 2 % of the rows are missing": (0, 0, 0.02, 0),
    "the last 0.5 % of the rows are missing": (0, 0, 0.005, 0),
    "every row is in the file twice": (0, 0, 0, 1),
    "half of the rows have a new key": (0.5, 0, 0.5, 0),
    "5 % of the rows have a new key": (0.05, 0, 0.05, 0),
    "a column is empty in every row": (0, 1, 0, 0),
    "an old file: no row has changed": None,
}


def _counts(day: Day, rows: int) -> Counts:
    unchanged = rows - day.updated - day.deleted
    return Counts(rows + day.inserted - day.deleted, day.inserted, day.updated, day.deleted, unchanged, 0, 0, 0, 0)


def _incident(day: Day, rows: int, shares: tuple[float, float, float, float] | None) -> Counts:
    """Return the counts of a day's snapshot with an incident: its ordinary changes, in the rows that remain."""
    if shares is None:
        return _counts(Day(0, 0, 0), rows)
    inserted, updated, deleted, twice = shares
    lost = round(rows * deleted)
    changed = rows - lost if updated else min(day.updated, rows - lost)
    found = Day(day.inserted + round(rows * inserted), changed, min(day.deleted + lost, rows - changed))
    counts = _counts(found, rows)
    duplicates = counts.rows_read if twice else 0
    return replace(counts, rows_read=counts.rows_read + duplicates, duplicates=duplicates)


@dataclass
class Year:
    """The result of one year of one table, or of a series of real snapshots."""

    judged: int = 0
    reasons: dict[date, str] = field(default_factory=dict)  # of the snapshots that were held
    by_default: int = 0  # of these, those that the default limits hold too
    figures: Counter[str] = field(default_factory=Counter)  # of the snapshots that were held
    incidents: int = 0
    held_by_default: Counter[str] = field(default_factory=Counter)
    held_by_learned: Counter[str] = field(default_factory=Counter)


def replay(kind: Kind, seed: int) -> Year:
    """Return what the guard does in a year.

    Args:
        kind: The kind of table.
        seed: The seed of its random numbers.
    """
    return judge(kind.rows, _days(kind, Random(f"{kind.text} {seed}")), lambda day, _: day.day == 15 and day.month >= 3)


def judge(rows: int, days: Iterable[tuple[date, Callable[[int], Day | None]]], is_chosen: Chosen) -> Year:
    """Return what the guard does with a series of snapshots.

    Args:
        rows: The rows of the first one.
        days: The day of each other one, and what it does to the rows before it; None: it has the same bytes.
        is_chosen: Whether incidents take its place.
    """
    year, first = Year(), Counts(rows, rows, 0, 0, 0, 0, 0, 0, 0)
    past = [{name: getattr(first, name) for name in FIGURES}]
    for date_, day in days:
        found = day(rows)
        today = found or Day(0, 0, 0)
        before = PastFigures(past[-MAX_SNAPSHOTS:])
        is_judged = len(past) >= MIN_SNAPSHOTS
        if is_chosen(date_, year.judged if is_judged else 0):
            year.incidents += 1
            for name, shares in INCIDENTS.items():
                incident = _incident(today, rows, shares)
                year.held_by_default[name] += hold_reason(incident, DEFAULT, lambda: 0) is not None
                year.held_by_learned[name] += hold_reason(incident, LEARNED, lambda: 0, before) is not None
        if found is None:  # it is recorded as unchanged, which is not judged and has no counts
            continue
        counts = _counts(today, rows)
        year.judged += is_judged
        if is_judged and (reason := hold_reason(counts, LEARNED, lambda: 0, before)):
            year.reasons[date_] = reason
            year.by_default += hold_reason(counts, DEFAULT, lambda: 0) is not None
            year.figures.update(name for name, label in FIGURES.items() if label in reason)
        past.append({name: getattr(counts, name) for name in FIGURES})
        rows += today.inserted - today.deleted
    return year


def _days(kind: Kind, random: Random) -> Iterator[tuple[date, Callable[[int], Day | None]]]:
    for number in range(1, 365):
        day = FIRST_DAY + timedelta(days=number)
        yield day, lambda rows, day=day: _or_none(kind.day(day, rows, random))


def _or_none(day: Day) -> Day | None:
    return day if day != Day(0, 0, 0) else None


def page() -> str:
    """Return the page with the results of all years."""
    years = {name: [replay(kind, seed) for seed in YEARS] for name, kind in KINDS.items()}
    lines = [
        "# The learned guard, replayed",
        "",
        "`python bench/learned_guard.py` computes this page, and `make docs` writes it: `guard: {learned: true}` over"
        f" {len(YEARS)} generated years",
        "of daily snapshots for each kind of table, with fixed seeds. A snapshot of an ordinary day that it holds is a"
        " false alarm. An",
        "incident takes the place of a day's snapshot, ten times a year; the default limits (`max_deleted` 0.3) are"
        " beside it.",
        "",
        "## False alarms",
        "",
        "| table | | snapshots judged | held | a year | mostly by |",
        "|---|---|--:|--:|--:|---|",
    ]
    for name, kind in KINDS.items():
        judged, held = sum(y.judged for y in years[name]), sum(len(y.reasons) for y in years[name])
        ((figure, _),) = sum((y.figures for y in years[name]), Counter()).most_common(1)
        lines.append(f"| {name} | {kind.text} | {judged:,} | {held:,} | {held / len(YEARS):.1f} | {figure} |")
    lines += [
        "",
        "A burst that comes once in 30 snapshots is held each time, as the ends of the months here. After a step of"
        " more than 1 % in the number",
        "of rows, each snapshot is held until half of the last 30 have the new number, as in the catalogue: each was"
        " approved. A table whose",
        "bursts and steps are ordinary does without `learned`, and has `max_updated` and `max_inserted`.",
        "",
        "## Incidents that are held",
        "",
    ]
    lines += _incident_lines(years)
    folders = {p.name: len([f for f in p.iterdir() if f.is_dir()]) for p in sorted(SAMPLES.iterdir()) if p.is_dir()}
    found = ", ".join(f"{name} {count}" for name, count in folders.items())
    lines += [
        "",
        f"The samples of this repository have fewer than {MIN_SNAPSHOTS + 1} snapshots ({found}): the guard is not"
        " asked about them.",
        "",
    ]
    return "\n".join(lines)


def _incident_lines(years: dict[str, list[Year]]) -> list[str]:
    """Return the table of the incidents that are held, with a column for each kind of table or series."""
    lines = [f"| incident | default limits | {' | '.join(years)} |", f"|---|--:|{'--:|' * len(years)}"]
    for incident in INCIDENTS:
        total = sum(y.incidents for of_kind in years.values() for y in of_kind)
        default = sum(y.held_by_default[incident] for of_kind in years.values() for y in of_kind)
        cells = []
        for of_kind in years.values():
            held = sum(y.held_by_learned[incident] for y in of_kind)
            cells.append(f"{held} of {sum(y.incidents for y in of_kind)}")
        lines.append(f"| {incident} | {default} of {total} | {' | '.join(cells)} |")
    return lines


def real_section(pipelines: dict[str, Path], shows_reasons: bool) -> str:
    """Return the section with the results of real snapshots.

    Args:
        pipelines: The folders of pipelines whose snapshots have landed, by the name of the dataset.
        shows_reasons: Whether to print each snapshot that is held, and why.
    """
    rows, series = [], {}
    for dataset, folder in pipelines.items():
        for name, days, unreadable in landed_days.days_of(folder):
            if len(days) < MIN_SNAPSHOTS:
                few = counted(len(days) + 1, "snapshot")
                print(f"{dataset}, {name}: {few}, fewer than {MIN_SNAPSHOTS + 1}", file=sys.stderr)
                continue
            changes = ((day.time, lambda _, day=day: Day(day.inserted, day.updated, day.deleted)) for day in days)
            year = judge(days[0].before, changes, lambda _, judged: judged > 0 and judged % EVERY == 0)
            series[name] = [year]
            period = f"{days[0].time:%Y-%m-%d} to {days[-1].time:%Y-%m-%d}"
            figure = next((figure for figure, _ in year.figures.most_common(1)), "")
            counts = (year.judged, len(year.reasons), year.by_default, unreadable)
            cells = [
                dataset,
                name,
                period,
                f"{median(day.before for day in days):,.0f}",
                *(f"{count:,}" for count in counts),
                figure,
            ]
            rows.append(f"| {' | '.join(cells)} |")
            if shows_reasons:
                print(
                    *(f"{name} {at:%Y-%m-%d %H:%M}: {why}" for at, why in year.reasons.items()),
                    sep="\n",
                    file=sys.stderr,
                )
    head = ["dataset", "table", "snapshots of", "rows", "judged", "held", "both", "not read", "mostly by"]
    table = [f"| {' | '.join(head)} |", "|---|---|---|--:|--:|--:|--:|--:|---|", *rows]
    return "\n".join([REAL, "", ABOUT_REAL, "", *table, "", *_incident_lines(series)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--real", nargs="+", default=[], metavar="NAME=PIPELINE", help="pipelines with landed snapshots"
    )
    parser.add_argument("--reasons", action="store_true", help="print each real snapshot that is held, and why")
    parser.add_argument(
        "--out", type=Path, help="page to write into; real snapshots in it stay unless there are new ones"
    )
    options = parser.parse_args()
    if options.real:
        named = (each.partition("=") for each in options.real)
        text = real_section({name: Path(folder) for name, _, folder in named}, options.reasons)
    else:
        text = page()
    if options.out is None:
        sys.stdout.write(text)
    elif options.real:
        pages.write_section(options.out, text)
    else:
        real = pages.read_section(options.out, REAL)
        options.out.write_text(text + (f"\n{real}" if real else ""), encoding="utf-8")


if __name__ == "__main__":
    main()
