"""Lists the tables and models that need attention, most urgent first, from the document of `status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from lakehouse.runner.context import name_pipeline
from lakehouse.runner.outcome import FAILED
from lakehouse.storage.paths import snapshot_name, to_utc
from lakehouse.text import age_text, counted

Row = dict[str, Any]

_MAX_NAMES = 5
_MAX_SECONDS_AHEAD = 600  # clocks differ


def find_attention(document: Row, path: str) -> list[Row]:
    """Return the tables and models that need attention.

    Args:
        document: The document of `status`.
        path: The argument PIPELINE, for the commands.

    Returns:
        Rows of (what, name, found, next).
    """
    parts = (_of_tables, _of_source, _of_runs, _of_models)
    return [row for part in parts for row in part(document, path)]


def _row(what: str, name: str, found: str | None, next_step: str) -> Row:
    return {"what": what, "name": name, "found": found or "", "next": next_step}


def _of_tables(document: Row, path: str) -> Iterator[Row]:
    tables = document["tables"]
    for table in (each for each in tables if each["held"]):
        name, stamp = table["table"], snapshot_name(to_utc(table["held"]))
        next_step = f"lakehouse approve {path} {name} {stamp}, or correct the source"
        yield _row("held", name, f"snapshot {stamp}: {table['note']}", next_step)
    for table in (each for each in tables if each["newest"] == "rejected"):
        next_step = f"correct the source; lakehouse history {path} {table['table']}"
        yield _row("rejected", table["table"], table["note"], next_step)
    for table in tables:
        name, sequence = table["table"], table["sequence"]
        if sequence is not None and (table["bronze_sequence"] or 0) < sequence:
            found = f"change set {table['bronze_sequence'] or 0} of {sequence} is applied"
            yield _row("bronze is behind", name, found, f"lakehouse bronze {path} {name}")
    for table in (each for each in tables if each["waiting"]):
        found = f"{table['waiting']} without a decision"
        yield _row("landed snapshots", table["table"], found, f"lakehouse ingest {path} {table['table']}")
    for table in tables:
        for changed in table["changed_in_source"]:
            found = f"snapshot {snapshot_name(to_utc(changed['snapshot_time']))}: its folder changed after it was taken"
            yield _row("changed in the source", table["table"], found, changed["next_step"])
    for table in (each for each in tables if (each["age_seconds"] or 0) < -_MAX_SECONDS_AHEAD):
        stamp = snapshot_name(to_utc(table["snapshot_time"]))
        found = f"snapshot {stamp} is {age_text(table['age_seconds'])}: one with an earlier time is rejected as late"
        yield _row("in the future", table["table"], found, "name folders by their time in UTC: date -u +%Y%m%d_%H%M%S")
    for table in (each for each in tables if "the KEY" in (each["leading_zeros"] or "")):  # else a note is enough
        name = table["table"]
        next_step = f"declare it as STRING in `schema`; then lakehouse bronze {path} {name} --full-refresh"
        yield _row("leading zeros", name, table["leading_zeros"], next_step)
    for table in (each for each in tables if each["quarantined"]):
        next_step = f"lakehouse quarantine {path} {table['table']}"
        yield _row(
            "quarantine", table["table"], f"{counted(table['quarantined'], 'row')} of the last snapshot", next_step
        )


def _of_source(document: Row, path: str) -> Iterator[Row]:
    if waiting := document.get("not_ready"):
        next_step = f"wait for the source to complete it; then lakehouse run {path}"
        yield _row("not ready", waiting["snapshot"], waiting["message"], next_step)


def _of_runs(document: Row, path: str) -> Iterator[Row]:
    newest = next((run for run in document["runs"] if run["doing"] == "run"), None)
    if newest and newest["exit_code"] in (1, 2, 3):  # what 4 and 5 mean is in the tables and models
        found = f"exit code {newest['exit_code']}; {', '.join(newest['failed'])}".rstrip("; ")
        yield _row("the last run failed", newest["run_id"], found, f"lakehouse run {path}")
    late = [table for table in document["tables"] if table["overdue_seconds"]]
    if late:
        found = f"no successful run for {age_text(max(table['overdue_seconds'] for table in late))} after it was due"
        yield _row("overdue", _names(table["table"] for table in late), found, f"lakehouse run {path}")


def _of_models(document: Row, path: str) -> Iterator[Row]:
    failed = document["expectations"]
    for rule in (each for each in failed if each["on_fail"] == "fail"):
        found = f"{rule['rule']}: {rule['found']}"
        yield _row(
            "the model is stopped", rule["model"], found, f"correct the source or the rule; lakehouse run {path}"
        )
    by_rules = {rule["model"] for rule in failed if rule["on_fail"] == "fail"}
    problems = [model for model in document["models"] if model.get("stopped") and model["model"] not in by_rules]
    for model in problems:
        what = "the model is stopped" if model["stopped"] == FAILED else "the model waits"
        note = _note_lines(model["note"] or "")
        next_step = name_pipeline(note.get("next", f"lakehouse run {path}"), path)
        yield _row(what, model["model"], note.get("found", model["note"]), next_step)
    others = Counter(rule["model"] for rule in failed if rule["on_fail"] != "fail")
    for model, count in others.items():
        rules = _names(rule["rule"] for rule in failed if rule["model"] == model)
        has_rows = any(rule["model"] == model and rule["on_fail"] == "quarantine" for rule in failed)
        next_step = f"lakehouse quarantine {path} {model}" if has_rows else f"lakehouse explain {path} {model}"
        yield _row("expectations", model, f"{count} not met: {rules}", next_step)
    listed = by_rules | {model["model"] for model in problems}
    waiting = [model["model"] for model in document["models"] if model["waiting"] and model["model"] not in listed]
    if waiting and not document["runs"] and all(table["newest"] is None for table in document["tables"]):
        yield _row("nothing has run yet", document["pipeline"], "the lake is empty", f"lakehouse run {path}")
    elif waiting:
        yield _row("changes to read", _names(waiting), counted(len(waiting), "model"), f"lakehouse run {path}")
    for table in document["published"]:
        if table["note"] or table["waiting"]:
            found = table["note"] or "it has changes to publish"
            yield _row("publish", table["source"], found, f"lakehouse publish {path}")


def _note_lines(note: str) -> dict[str, str]:
    """Return the parts of a kept error by their labels; empty if the note is no error."""
    lines = (line.partition(":") for line in note.splitlines() if line and not line.startswith(" "))
    return {label: text.strip() for label, _, text in lines if label in ("found", "next")}


def _names(names: Any) -> str:
    listed = list(names)
    more = f" and {len(listed) - _MAX_NAMES} more" if len(listed) > _MAX_NAMES else ""
    return ", ".join(listed[:_MAX_NAMES]) + more
