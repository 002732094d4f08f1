"""Prints the findings of the verbs that look at a lake, for people: `status`, `history` and `quarantine`.

Times of snapshots are printed in the form that the verbs take, other times as ages.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from rich.table import Table
from rich.text import Text

from lakehouse.cli.console import print_json, print_rows, stdout
from lakehouse.lake.cdc import COUNT_COLUMNS
from lakehouse.lake.slices import Slices
from lakehouse.storage.paths import snapshot_name, to_utc
from lakehouse.text import age_text, counted, number_text

Row = dict[str, Any]

_MAX_REASONS = 20
_MAX_DIFFERENCES = 20


def status(content: Row, as_json: bool, with_storage: bool) -> None:
    """Print the rows that need attention, then the state of the tables, models and runs."""
    if as_json:
        print_json(content)
        return
    out, now = stdout(), datetime.now(timezone.utc)
    out.print(f"{content['pipeline']}, lake {content['lake']}{_catalog(content)}", soft_wrap=True)
    if content["attention"]:
        out.print(Text("needs attention", style="bold yellow"))
        for row in content["attention"]:
            out.print(Text(f"  {row['what']}: {row['name']}", style="yellow"), soft_wrap=True)
            out.print("\n".join(f"      {line}" for line in row["found"].splitlines()), soft_wrap=True)
            out.print(f"      next: {row['next']}", soft_wrap=True)
    else:
        out.print("nothing needs attention")
    sections = {
        "tables": [_table_row(row, now) for row in content["tables"]],
        "usual figures (guard.learned)": [row for table in content["tables"] for row in _usual_rows(table)],
        "models": [
            {"model": r["model"], "version": r["version"], "strategy": r["strategy"], "changes to read": r["waiting"]}
            for r in content["models"]
        ],
        "published": [r | {"published_at": _ago(r["published_at"], now)} for r in content["published"]],
        "last runs": [_run_row(row, now) for row in content["runs"]],
        "storage": content["storage"] if with_storage else [],
    }
    for title, rows in sections.items():
        if rows:
            out.print()
            print_rows(out, title, rows)


def _catalog(content: Row) -> str:
    return f", catalog {content['catalog']}" if "catalog" in content else ""


def _table_row(row: Row, now: datetime) -> Row:
    return {
        "table": row["table"],
        "sequence": row["sequence"],
        "snapshot": stamp(row["snapshot_time"]),
        "age": age_text(row["age_seconds"]) if row["age_seconds"] is not None else None,
        "newest": row["newest"],
        "slices": row.get("slices"),
        "to decide": row["waiting"] or None,
        "quarantined": row["quarantined"] or None,
        "missing": f"{row['missing']:,} since {stamp(row['missing_since'])}" if row.get("missing") else None,
        "wrong in the feed": _drift_text(row.get("drift")),
        "last success": _ago(row["last_success"], now),
        "note": None if row["held"] or row["newest"] == "rejected" else row["note"],  # that is above
    }


def _drift_text(drift: Row | None) -> str | None:
    return f"{counted(drift['keys'], 'key')} at {stamp(drift['snapshot_time'])}" if drift else None


def _usual_rows(table: Row) -> list[Row]:
    """Return one row for each figure of a table, or one that states how many snapshots are missing."""
    usual = table["usual"]
    if usual is None:
        return []
    if not usual["figures"]:
        found = f"{usual['snapshots']} of {usual['needed']} accepted snapshots"
        return [{"table": table["table"], "figure": found, "median": "", "from": "", "to": ""}]
    return [
        {"table": table["table"], "figure": name.replace("_", " ")}
        | {"median": number_text(each["median"]), "from": number_text(each["low"]), "to": number_text(each["high"])}
        for name, each in usual["figures"].items()
    ]


def _run_row(row: Row, now: datetime) -> Row:
    seconds = None if row["seconds"] is None else f"{row['seconds']:.1f}"
    result = "nothing new" if row["nothing_new"] else row["failed"]
    code = row["exit_code"] if row["ended"] else "running, or killed"
    return {
        "run": row["run_id"],
        "doing": row["doing"],
        "started": _ago(row["started"], now),
        "seconds": seconds,
        "exit code": code,
        "result": result,
    }


def history(content: Row, as_json: bool) -> None:
    """Print every decision about a table's snapshots, oldest first."""
    if as_json:
        print_json(content)
        return
    out, now = stdout(), datetime.now(timezone.utc)
    out.print(f"{content['pipeline']}, {content['table']}: {counted(len(content['entries']), 'decision')}")
    rows = [
        {"snapshot": stamp(entry["snapshot_time"]), "status": entry["status"], "sequence": entry["sequence"]}
        | {name: entry[name] for name in COUNT_COLUMNS}
        | {"missing": entry.get("missing"), "corrected": entry.get("corrected")}
        | {"slices": _slices_text(entry.get("slices"))}
        | {"recorded": _ago(entry["recorded_at"], now), "run": entry["run_id"], "reason": entry["reason"]}
        for entry in content["entries"]
    ]
    if rows:
        print_rows(out, "", rows)


def quarantine(content: Row, as_json: bool) -> None:
    """Print how many rows wait for which reason, and the newest of them."""
    if as_json:
        print_json(content)
        return
    out, reasons, rows = stdout(), content["reasons"], content["rows"]
    waiting, corrected = content["unresolved"], content["resolved"]
    counts = (
        f"{counted(waiting, 'row waits', 'rows wait')} to be corrected, {counted(corrected, 'was', 'were')} corrected"
    )
    out.print(f"{content['pipeline']}, {content['table']}: {counts}", soft_wrap=True)
    if reasons:
        out.print()
        print_rows(out, "by reason", reasons[:_MAX_REASONS], ("rows", "rule", "column", "reason", "advice"))
    if len(reasons) > _MAX_REASONS:
        out.print(f"and {counted(len(reasons) - _MAX_REASONS, 'other reason')}")
    if held := content["held"]:
        found = f"{counted(held['quarantined'], 'rejected row')} of the snapshot {stamp(held['snapshot_time'])}"
        out.print(f"{found}, which is held, are not here: {held['next_step']}", soft_wrap=True)
    if rows:
        out.print()
        columns = ("line", "rule", "column", "value", "occurrences", "first_sequence", "row")
        print_rows(out, f"the newest {len(rows):,} of {content['unresolved']:,}", rows, columns)


def show(content: Row, as_json: bool) -> None:
    """Print the counts and the first rows of a table or model."""
    if as_json:
        print_json(content)
        return
    out = stdout()
    at = f" at {stamp(content['at'])}" if content["at"] else ""
    windows = f" ({content['windows']:,} with closed windows)" if content["windows"] is not None else ""
    keys = ", ".join(content["keys"])
    out.print(f"{content['name']}{at}: {counted(content['count'], 'row')}{windows}, key {keys}", soft_wrap=True)
    if content["last_change"] is not None:
        counts = [f"{name.replace('_', ' ')} {count:,}" for name, count in content["last_change"].items() if count]
        out.print(f"snapshot {stamp(content['snapshot_time'])}: {', '.join(counts) or 'no rows'}", soft_wrap=True)
    columns = [column for column in content["columns"] if not column["name"].startswith("_cdc_")]
    _print_result(columns, content["rows"])


def query(content: Row, as_json: bool) -> None:
    """Print the rows of a query, or that they were written."""
    if as_json:
        print_json(content)
    elif "out" in content:
        written = counted(content["count"], "row is", "rows are")
        stdout().print(f"{written} written to {content['out']}", soft_wrap=True)
    else:
        _print_result(content["columns"], content["rows"])
        if content["has_more"]:
            stdout().print(
                f"the first {counted(len(content['rows']), 'row')}; --limit N shows more, --out FILE writes all"
            )


def test_case(case: Row) -> None:
    """Print one line for the result of a test case, and how its rows differ."""
    out, is_failed = stdout(), case["result"] == "failed"
    result, seconds = "FAILED" if is_failed else "ok", f"{case['seconds']:.1f} s"
    line = f"{result:<7} {case['model']:<24} {case['case']}  ({case['file']}, {seconds})"
    out.print(Text(line, style="red" if is_failed else ""), soft_wrap=True)
    for difference in case["differences"][:_MAX_DIFFERENCES]:
        out.print(f"        {_difference_text(difference)}", soft_wrap=True)
    if len(case["differences"]) > _MAX_DIFFERENCES:
        out.print(
            f"        and {counted(len(case['differences']) - _MAX_DIFFERENCES, 'other difference')}; --json has all"
        )
    if case["note"]:
        out.print(f"        {case['note']}", soft_wrap=True)


def _difference_text(row: Row) -> str:
    if row["kind"] == "differs":
        key = ", ".join(f"{name}={_text(value)}" for name, value in row["key"].items())
        return f"{key}: {row['column']} is {_json(row['found'])}, expected {_json(row['expected'])}"
    return f"{row['kind']} row: {_json(row['expected'] if row['kind'] == 'missing' else row['found'])}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def tests(content: Row, as_json: bool) -> None:
    """Print how many test cases passed; each has printed its own line."""
    if as_json:
        print_json(content)
    elif not content["cases"]:
        stdout().print(f"{content['pipeline']} has no test cases: write them to tests/*.yml, or use --cut MODEL KEY")
    else:
        stdout().print(f"{content['passed']} passed, {content['failed']} failed")


def _print_result(columns: list[Row], rows: list[Row]) -> None:
    """Print rows with all their columns; null is NULL, so that it is not taken for an empty text."""
    table = Table(box=None, pad_edge=False)
    numbers = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE"}
    for column in columns:
        is_number = column["type"] in numbers or column["type"].startswith("DECIMAL")
        table.add_column(column["name"], overflow="fold", justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*("NULL" if value is None else _text(value) for value in (row[c["name"]] for c in columns)))
    if rows:
        stdout().print(table)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def stamp(time: str | None) -> str | None:
    """Return the time of a snapshot in the form that the verbs take.

    >>> stamp("2025-10-03T17:05:52Z")
    '20251003_170552'
    """
    return None if time is None else snapshot_name(to_utc(time))


def _slices_text(slices: list[dict[str, str]] | None) -> str | None:
    if slices is None:
        return None
    return Slices(tuple(slices[0]) if slices else (), frozenset(tuple(each.values()) for each in slices)).describe()


def _ago(time: str | None, now: datetime) -> str | None:
    return None if time is None else f"{age_text(max((now - to_utc(time)).total_seconds(), 0))} ago"
