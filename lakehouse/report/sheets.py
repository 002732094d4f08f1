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


def freshness(found: Document, w: Words) -> Document:
    columns = [
        *[(w("table"), "name"), (w("snapshot"), "time"), (w("age"), "age"), (w("sequence"), "number")],
        *[(w("newest_decision"), "status"), (w("last_looked"), "time"), (w("due"), "text"), (w("note"), "text")],
    ]

    def due(seconds: int | None) -> str | None:
        return None if seconds is None else w("late", age=w.age(seconds)) if seconds else w("in_time")

    told = ("table", "snapshot_time", "age_seconds", "sequence", "newest", "last_success")
    tables = found["status"]["tables"]
    return sheet(columns, ([*(t[name] for name in told), due(t["overdue_seconds"]), t["note"] or None] for t in tables))


def decisions(found: Document, w: Words) -> Document:
    counts = ("rows_read", "inserted", "updated", "deleted", "unchanged", "quarantined", "duplicates")
    columns = [(w("table"), "name"), (w("snapshot"), "time"), (w("status"), "status"), (w("sequence"), "number")]
    columns += [*((w(name), "number") for name in counts), (w("reason"), "text")]
    told = ("table", "snapshot_time", "status", "sequence", *counts, "reason")
    entries = found["entries"]
    shown, of = entries["shown"], entries["of"]
    cut = w("decisions_cut", shown=w.number(len(shown)), of=w.number(of), folder=found["folder"])
    return sheet(
        columns,
        ([e[name] if e[name] != "" else None for name in told] for e in reversed(shown)),
        cut if of > len(shown) else "",
    )


def quality(found: Document, w: Words) -> Document:
    names = ("rows_read", "accepted_rows", "quarantined", "duplicates")
    columns = [(w("table"), "name"), (w("snapshot"), "time"), *((w(name), "number") for name in names)]

    def row(table: Document) -> list[Any]:
        read, refused, doubled = (table.get(name, 0) for name in ("rows_read", "quarantined", "duplicates"))
        share = f"{100 * (read - refused) / read:.2f}" if read else None
        return [table["table"], table["snapshot_time"], read, read - refused - doubled, refused, doubled, share]

    return sheet([*columns, (w("accepted_share"), "number")], map(row, found["quality"]["tables"]))


def expectations(found: Document, w: Words) -> Document:
    columns = [(w("model"), "name"), (w("expectation"), "name"), (w("check"), "code"), (w("on_fail"), "text")]
    return sheet(columns, ([e["model"], e["name"], e["check"], e["on_fail"]] for e in found["quality"]["expectations"]))


def results(found: Document, w: Words) -> Document:
    """What came of each expectation; a column that is not known here is shown as it is stored."""
    kinds = {
        "status": "status",
        "recorded_at": "time",
        "as_of": "time",
        "model": "name",
        "rule": "name",
        "run_id": "name",
    }
    rows = found["quality"]["results"]
    names = [*rows[0]] if rows else []
    columns = [
        (w(name) if name in TEXTS else name.replace("_", " "), kinds.get(name) or _kind(rows, name)) for name in names
    ]
    return sheet(columns, ([None if value == "" else value for value in row.values()] for row in rows))


def _kind(rows: list[Document], name: str) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    return "number" if values and all(type(value) in (int, float) for value in values) else "text"


def quarantine(found: Document, w: Words) -> Document:
    columns = [(w("table"), "name"), (w("stage"), "text"), (w("rule"), "name"), (w("column"), "name")]
    columns += [(w(name), "number") for name in ("waiting", "resolved", "since_sequence")]
    told = ("table", "stage", "rule", "column", "waiting", "resolved", "since")
    return sheet(columns, ([q[name] for name in told] for q in found["quarantine"]))


def columns(found: Document, w: Words) -> Document:
    """Every column of a model and what it is computed from."""
    headings = [(w("model"), "name"), (w("column"), "name"), (w("from_columns"), "name"), (w("computed_as"), "code")]
    rows = (
        [each["relation"], c["name"], ", ".join(".".join(o) for o in c["origins"]) or w("constant"), c["text"] or None]
        for each in found["lineage"]
        if not each["relation"].startswith("bronze.")
        for c in each["columns"]
    )
    return sheet(headings, rows)


def models(found: Document, w: Words) -> Document:
    columns = [(w("model"), "name"), (w("strategy"), "name"), (w("reason"), "text")]
    columns += [(w("keys"), "name"), (w("reads"), "name")]
    told = ("model", "strategy", "reason")
    rows = ([*(m[n] for n in told), ", ".join(m["keys"]), ", ".join(m["inputs"])] for m in found["models"])
    return sheet(columns, rows)


def runs(found: Document, w: Words) -> Document:
    columns = [(w("run"), "name"), (w("doing"), "text"), (w("started"), "time")]
    columns += [(w("seconds"), "number"), (w("exit_code"), "number"), (w("note"), "text")]
    told = ("run_id", "doing", "started", "seconds", "exit_code")

    def note(run: Document) -> str | None:
        return w("nothing_new") if run["nothing_new"] else "; ".join(run["failed"]) or None

    return sheet(columns, ([*(run[name] for name in told), note(run)] for run in found["runs"]))


def cube(found: Document, w: Words) -> Document:
    """A cube's newest rows."""
    rows, of = found["table"]["rows"], found["rows"]
    cut = w("rows_shown", shown=w.number(len(rows)), of=w.number(of))
    return sheet([(c["name"], c["kind"]) for c in found["table"]["columns"]], rows, cut if len(rows) < of else "")


def facts(found: Document, w: Words) -> str:
    """What a cube is made of, and what of it is not shown, in a line."""
    dimensions = [d for d in (found["time"], *found["dimensions"]) if d]
    told = w(
        "cube_facts",
        rows=w.number(found["rows"]),
        dimensions=", ".join(dimensions) or w("none"),
        measures=", ".join(found["measures"]) or w("none"),
    )
    left_out = {
        w("hidden", columns=", ".join(found["hidden"])): found["hidden"],
        w("uncharted", dimensions=", ".join(dict.fromkeys(found["uncharted"]))): found["uncharted"],
        w("times_cut", n=w.number(found["times_cut"])): found["times_cut"],
    }
    return " ".join([told, *(text for text, is_so in left_out.items() if is_so)])
