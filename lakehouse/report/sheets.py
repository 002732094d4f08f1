"""Builds the tables of the page: their columns with a kind each, and their rows. The template writes the cells.

The kinds are `name` and `code` (in a fixed-width font), `text`, `note` and `value` (texts that are wrapped), `status`,
`data` (current or old), `change` (inserted, updated or deleted), `number`, `time` and `age` (seconds).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lakehouse.lake.cdc import COUNT_COLUMNS
from lakehouse.report.texts import TEXTS
from lakehouse.report.words import Words
from lakehouse.text import visible

Document = dict[str, Any]

_MAX_VALUE_CHARS = 200  # of a value before or after a change


def sheet(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]], note: str = "") -> Document:
    """Return a table.

    Args:
        columns: The heading and the kind of each column.
        rows: The values of each row.
        note: A text above the table, such as the number of rows that are not shown.
    """
    return {"columns": list(columns), "rows": [list(row) for row in rows], "note": note}


def freshness(document: Document, words: Words) -> Document:
    """Return how old the data of each table is, and whether the runs are late."""
    columns = [(words("table"), "name"), (words("data_of"), "time"), (words("age"), "age"), (words("data"), "data")]
    columns += [(words("newest_decision"), "status"), (words("note"), "note"), (words("last_looked"), "time")]
    columns += [(words("due"), "text"), (words("sequence"), "number")]
    has_missing = any(table["missing"] is not None for table in document["status"]["tables"])
    if has_missing:
        columns += [(words("missing_keys"), "number"), (words("missing_since"), "time")]
    has_drift = any(table["drift"] for table in document["status"]["tables"])
    if has_drift:
        columns += [(words("wrong_keys"), "number"), (words("by_snapshot_of"), "time")]
    ages = {age["table"]: age for age in document["data_age"]}

    def due(seconds: int | None) -> str | None:
        return None if seconds is None else words("late", age=words.age(seconds)) if seconds else words("in_time")

    def row(table: Document) -> list[Any]:
        age = ages[table["table"]]
        state = None if age["time"] is None else "old" if age["is_old"] else "current"
        runs = [table["last_success"], due(table["overdue_seconds"])]
        decision = [table["newest"], table["note"] or None]
        missing = [table["missing"], table["missing_since"]] if has_missing else []
        drift = table["drift"] or {"keys": None, "snapshot_time": None}
        figures = [*missing, *([drift["keys"], drift["snapshot_time"]] if has_drift else [])]
        return [table["table"], age["time"], age["seconds"], state, *decision, *runs, table["sequence"], *figures]

    return sheet(columns, map(row, document["status"]["tables"]))


def changed_rows(snapshot: Document, kinds: Mapping[str, str], words: Words) -> Document:
    """Return the changed rows of a snapshot: a line for each changed column, or for a row that is new or gone.

    Args:
        snapshot: The snapshot, as `read_changed_rows` returns it.
        kinds: The kind of each column.
        words: The language.
    """

    def text(name: str, value: Any) -> str | None:
        if value is None or isinstance(value, str):
            shown = value if value is None or kinds.get(name) != "time" else words.moment(value)
        else:
            shown = json.dumps(value, ensure_ascii=False)
        return None if shown is None else visible(shown, _MAX_VALUE_CHARS)

    def joined(values: Document | None) -> str | None:
        if values is None:
            return None
        return " · ".join(f"{name}: {'—' if (shown := text(name, v)) is None else shown}" for name, v in values.items())

    def lines(row: Document) -> Iterator[list[Any]]:
        start = [row["change"], joined(row["key"])]
        before, after = row["before"], row["after"]
        if row["change"] == "updated":
            for name, value in after.items():
                yield [
                    *start,
                    name,
                    words("not_found") if before is None else text(name, before[name]),
                    text(name, value),
                ]
        else:
            yield [*start, words("whole_row"), joined(before), joined(after)]

    columns = [(words("change"), "change"), (words("key"), "name"), (words("column"), "name")]
    columns += [(words("was"), "value"), (words("is_now"), "value")]
    rows = [line for row in snapshot["rows"] or () for line in lines(row)]
    shown = Counter(row["change"] for row in snapshot["rows"] or ())
    cut = [
        f"{words(kind)}: {words('rows_shown', shown=words.number(shown[kind]), of=words.number(of))}"
        for kind, of in snapshot["counts"].items()
        if shown[kind] < of
    ]
    return sheet(columns, rows, " · ".join(cut))


def decisions(document: Document, words: Words) -> Document:
    """Return the decisions of the ledger, the newest first."""
    columns = [
        (words("table"), "name"),
        (words("snapshot"), "time"),
        (words("status"), "status"),
        (words("reason"), "note"),
        (words("sequence"), "number"),
    ]
    columns += [(words(name), "number") for name in COUNT_COLUMNS]
    names = ("table", "snapshot_time", "status", "reason", "sequence", *COUNT_COLUMNS)
    shown, total = document["entries"]["shown"], document["entries"]["of"]
    note = words("decisions_cut", shown=words.number(len(shown)), of=words.number(total), folder=document["folder"])
    return sheet(
        columns,
        ([e[name] if e[name] != "" else None for name in names] for e in reversed(shown)),
        note if total > len(shown) else "",
    )


def quality(document: Document, words: Words) -> Document:
    """Return the row counts of the newest accepted snapshot of each table."""
    names = ("rows_read", "accepted_rows", "quarantined", "duplicates")
    columns = [(words("table"), "name"), (words("snapshot"), "time"), *((words(name), "number") for name in names)]

    def row(table: Document) -> list[Any]:
        read, rejected, duplicates = (table.get(name, 0) for name in ("rows_read", "quarantined", "duplicates"))
        share = f"{100 * (read - rejected) / read:.2f}" if read else None
        return [table["table"], table["snapshot_time"], read, read - rejected - duplicates, rejected, duplicates, share]

    return sheet([*columns, (words("accepted_share"), "number")], map(row, document["quality"]["tables"]))


def expectations(document: Document, words: Words) -> Document:
    """Return the expectations of the models."""
    columns = [
        (words("model"), "name"),
        (words("expectation"), "name"),
        (words("check"), "code"),
        (words("on_fail"), "text"),
    ]
    return sheet(
        columns, ([e["model"], e["name"], e["check"], e["on_fail"]] for e in document["quality"]["expectations"])
    )


def results(document: Document, words: Words) -> Document:
    """Return the newest result of each expectation. A column without a translated heading has its stored name."""
    kinds = {
        "status": "status",
        "recorded_at": "time",
        "as_of": "time",
        "model": "name",
        "rule": "name",
        "run_id": "name",
    }
    rows = document["quality"]["results"]

    def kind(name: str) -> str:
        values = [row[name] for row in rows if row[name] is not None]
        return "number" if values and all(type(value) in (int, float) for value in values) else "text"

    columns = [
        (words(name) if name in TEXTS else name.replace("_", " "), kinds.get(name) or kind(name))
        for name in (rows[0] if rows else ())
    ]
    return sheet(columns, ([None if value == "" else value for value in row.values()] for row in rows))


def quarantine(document: Document, words: Words) -> Document:
    """Return the number of rejected rows by rule."""
    columns = [(words("table"), "name"), (words("stage"), "text"), (words("rule"), "name"), (words("column"), "name")]
    columns += [(words(name), "number") for name in ("waiting", "resolved", "since_sequence")]
    names = ("table", "stage", "rule", "column", "waiting", "resolved", "since")
    return sheet(columns, ([q[name] for name in names] for q in document["quarantine"]))


def columns(document: Document, words: Words) -> Document:
    """Return every column of every model, with its source columns and its SQL."""
    headings = [
        (words("model"), "name"),
        (words("column"), "name"),
        (words("from_columns"), "name"),
        (words("computed_as"), "code"),
    ]
    rows = (
        [r["relation"], c["name"], ", ".join(".".join(o) for o in c["origins"]) or words("constant"), c["text"] or None]
        for r in document["lineage"]
        if not r["relation"].startswith("bronze.")
        for c in r["columns"]
    )
    return sheet(headings, rows)


def models(document: Document, words: Words) -> Document:
    """Return the models with the reason for their strategy."""
    columns = [(words("model"), "name"), (words("strategy"), "name"), (words("reason"), "text")]
    columns += [(words("keys"), "name"), (words("reads"), "name")]
    names = ("model", "strategy", "reason")
    rows = ([*(m[name] for name in names), ", ".join(m["keys"]), ", ".join(m["inputs"])] for m in document["models"])
    return sheet(columns, rows)


def runs(document: Document, words: Words) -> Document:
    """Return the last runs, the newest first."""
    columns = [(words("run"), "name"), (words("doing"), "text"), (words("started"), "time")]
    columns += [(words("seconds"), "number"), (words("exit_code"), "number"), (words("note"), "text")]
    names = ("run_id", "doing", "started", "seconds", "exit_code")

    def note(run: Document) -> str | None:
        return words("nothing_new") if run["nothing_new"] else "; ".join(run["failed"]) or None

    return sheet(columns, ([*(run[name] for name in names), note(run)] for run in document["runs"]))


def cube(document: Document, words: Words) -> Document:
    """Return the newest rows of a cube."""
    rows, total = document["table"]["rows"], document["rows"]
    note = words("rows_shown", shown=words.number(len(rows)), of=words.number(total))
    return sheet(
        [(c["name"], c["kind"]) for c in document["table"]["columns"]], rows, note if len(rows) < total else ""
    )


def facts(cube_document: Document, words: Words) -> str:
    """Return one line about a cube: its size, its columns, and the parts that are not shown.

    Args:
        cube_document: The cube, as `read_cube` returns it.
        words: The language.
    """
    dimensions = [d for d in (cube_document["time"], *cube_document["dimensions"]) if d]
    summary = words(
        "cube_facts",
        rows=words.number(cube_document["rows"]),
        dimensions=", ".join(dimensions) or words("none"),
        measures=", ".join(cube_document["measures"]) or words("none"),
    )
    omitted = {
        words("hidden", columns=", ".join(cube_document["hidden"])): cube_document["hidden"],
        words("uncharted", dimensions=", ".join(dict.fromkeys(cube_document["uncharted"]))): cube_document["uncharted"],
        words("times_cut", n=words.number(cube_document["times_cut"])): cube_document["times_cut"],
    }
    return " ".join([summary, *(text for text, has_omission in omitted.items() if has_omission)])


SHEETS = {
    "freshness": freshness,
    "decisions": decisions,
    "quality": quality,
    "expectations": expectations,
    "results": results,
    "quarantine": quarantine,
    "columns": columns,
    "models": models,
    "runs": runs,
}
"""The tables of the page by their name in the template; a cube has one of its own."""
