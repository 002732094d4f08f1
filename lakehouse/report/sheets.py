"""The page's tables: which columns, of which kind, and the rows. Plain values; how they are written is the template's.

Kinds: `name` and `code` (as they are, in type of one width), `text`, `status`, `number`, `time`, `age` (seconds).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lakehouse.report.texts import TEXTS
from lakehouse.report.words import Words

Document = dict[str, Any]


def sheet(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]], note: str = "") -> Document:
    """A table: `columns` are heading and kind."""
    return {"columns": list(columns), "rows": [list(row) for row in rows], "note": note}


def freshness(document: Document, words: Words) -> Document:
    columns = [
        *[(words("table"), "name"), (words("snapshot"), "time"), (words("age"), "age"), (words("sequence"), "number")],
        *[
            (words("newest_decision"), "status"),
            (words("last_looked"), "time"),
            (words("due"), "text"),
            (words("note"), "text"),
        ],
    ]

    def due(seconds: int | None) -> str | None:
        return None if seconds is None else words("late", age=words.age(seconds)) if seconds else words("in_time")

    told = ("table", "snapshot_time", "age_seconds", "sequence", "newest", "last_success")
    tables = document["status"]["tables"]
    return sheet(columns, ([*(t[name] for name in told), due(t["overdue_seconds"]), t["note"] or None] for t in tables))


def decisions(document: Document, words: Words) -> Document:
    counts = ("rows_read", "inserted", "updated", "deleted", "unchanged", "quarantined", "duplicates")
    columns = [
        (words("table"), "name"),
        (words("snapshot"), "time"),
        (words("status"), "status"),
        (words("sequence"), "number"),
    ]
    columns += [*((words(name), "number") for name in counts), (words("reason"), "text")]
    told = ("table", "snapshot_time", "status", "sequence", *counts, "reason")
    entries = document["entries"]
    shown, of = entries["shown"], entries["of"]
    cut = words("decisions_cut", shown=words.number(len(shown)), of=words.number(of), folder=document["folder"])
    return sheet(
        columns,
        ([e[name] if e[name] != "" else None for name in told] for e in reversed(shown)),
        cut if of > len(shown) else "",
    )


def quality(document: Document, words: Words) -> Document:
    names = ("rows_read", "accepted_rows", "quarantined", "duplicates")
    columns = [(words("table"), "name"), (words("snapshot"), "time"), *((words(name), "number") for name in names)]

    def row(table: Document) -> list[Any]:
        read, refused, doubled = (table.get(name, 0) for name in ("rows_read", "quarantined", "duplicates"))
        share = f"{100 * (read - refused) / read:.2f}" if read else None
        return [table["table"], table["snapshot_time"], read, read - refused - doubled, refused, doubled, share]

    return sheet([*columns, (words("accepted_share"), "number")], map(row, document["quality"]["tables"]))


def expectations(document: Document, words: Words) -> Document:
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
    """What came of each expectation; a column that is not known here is shown as it is stored."""
    kinds = {
        "status": "status",
        "recorded_at": "time",
        "as_of": "time",
        "model": "name",
        "rule": "name",
        "run_id": "name",
    }
    rows = document["quality"]["results"]
    names = [*rows[0]] if rows else []
    columns = [
        (words(name) if name in TEXTS else name.replace("_", " "), kinds.get(name) or _cell_kind(rows, name))
        for name in names
    ]
    return sheet(columns, ([None if value == "" else value for value in row.values()] for row in rows))


def _cell_kind(rows: list[Document], name: str) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    return "number" if values and all(type(value) in (int, float) for value in values) else "text"


def quarantine(document: Document, words: Words) -> Document:
    columns = [(words("table"), "name"), (words("stage"), "text"), (words("rule"), "name"), (words("column"), "name")]
    columns += [(words(name), "number") for name in ("waiting", "resolved", "since_sequence")]
    told = ("table", "stage", "rule", "column", "waiting", "resolved", "since")
    return sheet(columns, ([q[name] for name in told] for q in document["quarantine"]))


def columns(document: Document, words: Words) -> Document:
    """Every column of a model and what it is computed from."""
    headings = [
        (words("model"), "name"),
        (words("column"), "name"),
        (words("from_columns"), "name"),
        (words("computed_as"), "code"),
    ]
    rows = (
        [
            each["relation"],
            c["name"],
            ", ".join(".".join(o) for o in c["origins"]) or words("constant"),
            c["text"] or None,
        ]
        for each in document["lineage"]
        if not each["relation"].startswith("bronze.")
        for c in each["columns"]
    )
    return sheet(headings, rows)


def models(document: Document, words: Words) -> Document:
    columns = [(words("model"), "name"), (words("strategy"), "name"), (words("reason"), "text")]
    columns += [(words("keys"), "name"), (words("reads"), "name")]
    told = ("model", "strategy", "reason")
    rows = ([*(m[n] for n in told), ", ".join(m["keys"]), ", ".join(m["inputs"])] for m in document["models"])
    return sheet(columns, rows)


def runs(document: Document, words: Words) -> Document:
    columns = [(words("run"), "name"), (words("doing"), "text"), (words("started"), "time")]
    columns += [(words("seconds"), "number"), (words("exit_code"), "number"), (words("note"), "text")]
    told = ("run_id", "doing", "started", "seconds", "exit_code")

    def note(run: Document) -> str | None:
        return words("nothing_new") if run["nothing_new"] else "; ".join(run["failed"]) or None

    return sheet(columns, ([*(run[name] for name in told), note(run)] for run in document["runs"]))


def cube(document: Document, words: Words) -> Document:
    """A cube's newest rows."""
    rows, of = document["table"]["rows"], document["rows"]
    cut = words("rows_shown", shown=words.number(len(rows)), of=words.number(of))
    return sheet([(c["name"], c["kind"]) for c in document["table"]["columns"]], rows, cut if len(rows) < of else "")


def facts(cube_document: Document, words: Words) -> str:
    """What a cube is made of, and what of it is not shown, in a line."""
    dimensions = [d for d in (cube_document["time"], *cube_document["dimensions"]) if d]
    told = words(
        "cube_facts",
        rows=words.number(cube_document["rows"]),
        dimensions=", ".join(dimensions) or words("none"),
        measures=", ".join(cube_document["measures"]) or words("none"),
    )
    left_out = {
        words("hidden", columns=", ".join(cube_document["hidden"])): cube_document["hidden"],
        words("uncharted", dimensions=", ".join(dict.fromkeys(cube_document["uncharted"]))): cube_document["uncharted"],
        words("times_cut", n=words.number(cube_document["times_cut"])): cube_document["times_cut"],
    }
    return " ".join([told, *(text for text, is_so in left_out.items() if is_so)])
