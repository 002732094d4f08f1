"""Leaves out of a case what a fault does not need: other tables and models, snapshots, rows, columns of models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic

from fuzz.case import Case, Table

Fails = Callable[[Case], bool]


def shrink(case: Case, name: str, fails: Fails, seconds: float) -> Case:
    """Return a smaller case that fails in the same way, found within a time.

    Args:
        case: The case that fails.
        name: The table or model of the fault, if it is known.
        fails: Whether a case still has the fault.
        seconds: When to stop.
    """
    end = monotonic() + seconds
    if name in case.names() and fails(smaller := case.needed_by(name)):
        case = smaller
    progress = True
    while progress and monotonic() < end:
        progress = False
        for smaller in _smaller(case):
            if monotonic() > end:
                break
            if fails(smaller):
                case, progress = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    for name in reversed(case.names()):
        if len(case.names()) > 1:
            yield case.without([name])
    if len(case.stamps) > 1:
        for at in range(len(case.stamps)):
            yield _without_snapshot(case, at)
    for at in range(len(case.alters)):
        yield replace(case, alters=case.alters[:at] + case.alters[at + 1 :])
    for setting in case.document:
        if setting != "pii_key":
            yield replace(case, document={k: v for k, v in case.document.items() if k != setting})
    for at, table in enumerate(case.tables):
        for smaller in _smaller_tables(table):
            yield replace(case, tables=(*case.tables[:at], smaller, *case.tables[at + 1 :]))
    for at, model in enumerate(case.models):
        if "expect" in model.settings:
            smaller_model = replace(model, settings={k: v for k, v in model.settings.items() if k != "expect"})
            yield replace(case, models=(*case.models[:at], smaller_model, *case.models[at + 1 :]))


def _without_snapshot(case: Case, at: int) -> Case:
    def drop(table: Table) -> Table:
        mutations = table.mutations[:at] + table.mutations[at + 1 :] if table.mutations else ()
        return replace(table, snapshots=table.snapshots[:at] + table.snapshots[at + 1 :], mutations=mutations)

    alters = tuple(replace(a, after=a.after - (a.after > at)) for a in case.alters if a.after != at)
    stamps = case.stamps[:at] + case.stamps[at + 1 :]
    return replace(case, tables=tuple(map(drop, case.tables)), stamps=stamps, alters=alters)


def _smaller_tables(table: Table) -> Iterator[Table]:
    if any(table.mutations):
        yield replace(table, mutations=())
    for at, rows in enumerate(table.snapshots):
        size = max(len(rows or ()) // 2, 1)
        while rows and size:
            for start in range(0, len(rows), size):
                kept = rows[:start] + rows[start + size :]
                yield replace(table, snapshots=(*table.snapshots[:at], kept, *table.snapshots[at + 1 :]))
            size = size // 2
    for setting in set(table.settings) - {"keys"}:
        yield replace(table, settings={k: v for k, v in table.settings.items() if k != setting})
    needed = {*table.settings["keys"], table.settings.get("updated_at")}
    for at, column in enumerate(table.columns):
        if column.name in needed or len(table.columns) < 3:
            continue
        settings = {k: v for k, v in table.settings.items() if column.name not in str(v) or k == "keys"}
        snapshots = tuple(rows and [row[:at] + row[at + 1 :] for row in rows] for rows in table.snapshots)
        yield replace(
            table, columns=table.columns[:at] + table.columns[at + 1 :], settings=settings, snapshots=snapshots
        )
